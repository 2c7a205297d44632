// Memory that is written for the first time in pages of 2 MB.
#ifndef TFDETECT_HUGE_PAGES_H_
#define TFDETECT_HUGE_PAGES_H_

#include <cstdint>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace tfdetect {

// Asks for huge pages for the part of [data, data + bytes) that whole ones fill. The allocator gives
// a large tensor memory that no one has touched, and takes it back afterwards: every run of an
// operator gets all its pages anew, and an interrupt for every 4 kB of them can take several times
// as long as writing them. Where there are no huge pages (or no Linux) nothing changes.
inline void PreferHugePages(void* data, int64_t bytes) {
#ifdef __linux__
  constexpr uintptr_t kPage = uintptr_t{1} << 21;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) /
                        kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

}  // namespace tfdetect

#endif  // TFDETECT_HUGE_PAGES_H_
