// What the TensorFlow-free files share: several versions of a hot loop, and 8-wide vectors.
#ifndef TFDETECT_PORTABILITY_H_
#define TFDETECT_PORTABILITY_H_

#include <cstdint>
#include <cstring>

// A function with this mark is compiled for AVX-512, for AVX2 with FMA and for any x86-64; the
// loader picks one, so that a library built on one machine runs on another. What it calls must be
// TFDETECT_INLINE to be compiled along. (Sanitizers start too late for the picking.)
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 && \
    !defined(TFDETECT_NO_CLONES)
#define TFDETECT_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
// For AVX-512 alone, where that wants loops of another shape; call it only on such a CPU.
#define TFDETECT_AVX512 __attribute__((target("arch=x86-64-v4")))
#else
#define TFDETECT_CLONES
#endif
#define TFDETECT_INLINE inline __attribute__((always_inline))

namespace tfdetect {

typedef float Float8 __attribute__((vector_size(32)));
typedef float Float16 __attribute__((vector_size(64)));
typedef int32_t Int8x32 __attribute__((vector_size(32)));
typedef uint32_t UInt8x32 __attribute__((vector_size(32)));
typedef uint16_t UInt8x16 __attribute__((vector_size(16)));

// Unaligned loads and stores of whole vectors.
template <typename Vector, typename T>
TFDETECT_INLINE void Load(const T* from, Vector& to) {
  std::memcpy(&to, from, sizeof(Vector));
}
template <typename Vector, typename T>
TFDETECT_INLINE void Store(const Vector& from, T* to) {
  std::memcpy(to, &from, sizeof(Vector));
}

}  // namespace tfdetect

#endif  // TFDETECT_PORTABILITY_H_
