// Memory of feature maps, kept by the process for the next ones.
#ifndef TFDETECT_LARGE_MEMORY_H_
#define TFDETECT_LARGE_MEMORY_H_

#include <cstddef>
#include <map>
#include <mutex>

namespace tfdetect {

// Large blocks out of one range of addresses, each from the lowest gap that it fits.
//
// malloc gives such blocks back to the system, which clears every page of the next one when it is
// first touched: that takes longer than writing it. Told to keep them, it cuts small blocks out of
// their gaps, and the next large one no longer fits: a third of its memory lies idle. Here there
// are no small ones, gaps that meet become one, and pages are of 2 MB where the system has them.
// What was touched stays with the process. Safe to call from several threads.
class LargeMemory {
 public:
  // Smaller blocks are better had elsewhere.
  static constexpr size_t kSmallest = size_t{1} << 20;

  // Reserves addresses, not memory. There are none where the system does not let it: then every
  // Take fails.
  explicit LargeMemory(size_t bytes);
  ~LargeMemory();
  LargeMemory(const LargeMemory&) = delete;
  LargeMemory& operator=(const LargeMemory&) = delete;

  // At least `bytes` bytes at a multiple of 4096, not cleared, or null where no gap is so long.
  void* Take(size_t bytes);
  // Of what Take returned.
  void Give(void* block);

 private:
  std::mutex mutex_;
  char* begin_ = nullptr;
  size_t bytes_;
  // Lengths by address.
  std::map<char*, size_t> gaps_, taken_;
};

}  // namespace tfdetect

#endif  // TFDETECT_LARGE_MEMORY_H_
