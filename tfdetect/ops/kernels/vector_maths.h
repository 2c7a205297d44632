// Functions of vectors of floats (their results by reference: by value the ABI depends on the
// instruction set), and the transposition of small matrices.
#ifndef TFDETECT_VECTOR_MATHS_H_
#define TFDETECT_VECTOR_MATHS_H_

#include "portability.h"

namespace tfdetect {

typedef int32_t Int16x32 __attribute__((vector_size(64)));

template <typename V>
struct IntegersOf;
template <>
struct IntegersOf<Float8> {
  typedef Int8x32 Type;
};
template <>
struct IntegersOf<Float16> {
  typedef Int16x32 Type;
};

template <typename V>
TFDETECT_INLINE void Select(const typename IntegersOf<V>::Type& mask, const V& yes, const V& no,
                            V& to) {
  typedef typename IntegersOf<V>::Type I;
  to = (V)((mask & (I)yes) | (~mask & (I)no));
}

// e^x of x <= 0, within 2e-7 of it; 0 below -86, where it is next to float32's smallest. NaN stays.
template <typename V>
TFDETECT_INLINE void ExpOfNegative(const V& x, V& to) {
  typedef typename IntegersOf<V>::Type I;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded
  const I tiny = x < -86.0f;
  V bounded;
  Select(tiny, V{} - 86.0f, x, bounded);
  const V shifted = bounded * 1.44269504f + kRound;
  const V n = shifted - kRound;
  // ln 2 in two parts; n times the first has no rounding.
  const V r = (bounded - n * 0.693359375f) + n * 2.12194440e-4f;
  V p = r * 8.290298458e-3f + 4.189802168e-2f;
  p = p * r + 0.1666763695f;
  p = p * r + 0.4999914885f;
  p = p * r + 0.9999997068f;
  p = p * r + 1.0f;
  // n lies in the lowest bits of `shifted`, and the rest is shifted out.
  to = (V)(((I)p + ((I)shifted << 23)) & ~tiny);
}

// x * Phi(x), of the normal distribution: 0.5 x (1 + erf(x / sqrt 2)), within 1e-6 or 3e-7 of it.
template <typename V>
TFDETECT_INLINE void Gelu(const V& x, V& to) {
  typedef typename IntegersOf<V>::Type I;
  const V z = x * 0.707106781f;
  const V magnitude = (V)((I)z & 0x7fffffff);
  const I beyond = magnitude > 3.92f;  // erf is 1 there to float32's precision
  V s, erf;
  Select(beyond, V{}, z * z, s);
  V p = s * -1.3666813458712568e-08f + 4.780545168614481e-06f;
  p = p * s + 3.826924366876483e-04f;
  p = p * s + 3.839529352262616e-03f;
  p = p * s + 5.433259904384613e-02f;
  p = p * s + 0.1847103387117386f;
  p = p * s + 1.128379225730896f;
  V q = s * 6.40093203401193e-05f + 1.309579354710877e-03f;
  q = q * s + 1.5453517436981201e-02f;
  q = q * s + 0.11382631212472916f;
  q = q * s + 0.49702882766723633f;
  q = q * s + 1.0f;
  const V one = (V)(((I)z & (int32_t)0x80000000) | (I)(V{} + 1.0f));
  Select(beyond, one, z * p / q, erf);
  to = (x * 0.5f) * (erf + 1.0f);
}

#ifdef __clang__
#define TFDETECT_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define TFDETECT_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (Int8x32){__VA_ARGS__})
#endif

TFDETECT_INLINE void Transpose8(Float8* m) {
  Float8 a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = TFDETECT_SHUFFLE(m[2 * i], m[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[2 * i + 1] = TFDETECT_SHUFFLE(m[2 * i], m[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = TFDETECT_SHUFFLE(a[i + j], a[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
      b[i + 2 * j + 1] = TFDETECT_SHUFFLE(a[i + j], a[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    }
  }
  for (int i = 0; i < 4; ++i) {
    m[i] = TFDETECT_SHUFFLE(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    m[i + 4] = TFDETECT_SHUFFLE(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}
#undef TFDETECT_SHUFFLE

}  // namespace tfdetect

#endif  // TFDETECT_VECTOR_MATHS_H_
