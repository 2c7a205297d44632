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
typedef uint32_t UInt16x32 __attribute__((vector_size(64)));
typedef uint16_t UInt16x16 __attribute__((vector_size(32)));

// Unaligned loads and stores of whole vectors. By a packed structure and not by memcpy, of which GCC
// makes moves of 16 bytes in a loop that is compiled for AVX2 by an attribute of its function: the
// vector that is then read back from two of them waits for both stores.
template <typename Vector>
struct __attribute__((packed, may_alias)) Unaligned {
  Vector value;
};
template <typename Vector, typename T>
TFDETECT_INLINE void Load(const T* from, Vector& to) {
  to = reinterpret_cast<const Unaligned<Vector>*>(from)->value;
}
template <typename Vector, typename T>
TFDETECT_INLINE void Store(const Vector& from, T* to) {
  reinterpret_cast<Unaligned<Vector>*>(to)->value = from;
}

}  // namespace tfdetect

#endif  // TFDETECT_PORTABILITY_H_
