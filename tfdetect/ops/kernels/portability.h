// What the TensorFlow-free files share: vectors of fixed width, and inlining.
#ifndef TFDETECT_PORTABILITY_H_
#define TFDETECT_PORTABILITY_H_

#include <cstdint>
#include <cstring>

#define TFDETECT_INLINE inline __attribute__((always_inline))
// Before a loop of at most so many turns, known at compile time.
#define TFDETECT_UNROLL _Pragma("GCC unroll 16")

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
