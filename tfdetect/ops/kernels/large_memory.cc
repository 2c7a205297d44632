#include "large_memory.h"

#include <iterator>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace tfdetect {
namespace {

// Blocks are multiples of this: few enough lengths for gaps to be used again.
constexpr size_t kGrain = size_t{1} << 16;

}  // namespace

LargeMemory::LargeMemory(size_t bytes) : bytes_(bytes / kGrain * kGrain) {
#ifdef __linux__
  void* range = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return;
  madvise(range, bytes_, MADV_HUGEPAGE);
  begin_ = static_cast<char*>(range);
  gaps_[begin_] = bytes_;
#endif
}

LargeMemory::~LargeMemory() {
#ifdef __linux__
  if (begin_ != nullptr) munmap(begin_, bytes_);
#endif
}

void* LargeMemory::Take(size_t bytes) {
  if (bytes > bytes_) return nullptr;
  const size_t length = (bytes + kGrain - 1) / kGrain * kGrain;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (auto gap = gaps_.begin(); gap != gaps_.end(); ++gap) {
    if (gap->second < length) continue;
    char* const block = gap->first;
    const size_t left = gap->second - length;
    gaps_.erase(gap);
    if (left > 0) gaps_[block + length] = left;
    taken_[block] = length;
    return block;
  }
  return nullptr;
}

void LargeMemory::Give(void* block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto taken = taken_.find(static_cast<char*>(block));
  auto gap = gaps_.emplace(taken->first, taken->second).first;
  taken_.erase(taken);
  const auto next = std::next(gap);
  if (next != gaps_.end() && gap->first + gap->second == next->first) {
    gap->second += next->second;
    gaps_.erase(next);
  }
  if (gap == gaps_.begin()) return;
  const auto previous = std::prev(gap);
  if (previous->first + previous->second != gap->first) return;
  previous->second += gap->second;
  gaps_.erase(gap);
}

}  // namespace tfdetect
