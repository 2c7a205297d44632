// float16 and bfloat16 as bits, and their conversions, a vector at a time and one by one.
#ifndef TFDETECT_HALF_H_
#define TFDETECT_HALF_H_

#include <cmath>
#include <cstdint>
#include <cstring>

#include "portability.h"

namespace tfdetect {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// Vectors of as many unsigned integers of 32 and of 16 bits.
template <typename V>
struct Bits;
template <>
struct Bits<Float8> {
  typedef UInt8x32 Wide;
  typedef UInt8x16 Narrow;
};
template <>
struct Bits<Float16> {
  typedef UInt16x32 Wide;
  typedef UInt16x16 Narrow;
};

template <typename V>
TFDETECT_INLINE void LoadFloats(const float* from, V& to) {
  Load(from, to);
}

template <typename V>
TFDETECT_INLINE void LoadFloats(const BFloat16* from, V& to) {
  typename Bits<V>::Narrow narrow;
  Load(from, narrow);
  const typename Bits<V>::Wide bits = __builtin_convertvector(narrow, typename Bits<V>::Wide) << 16;
  to = (V)bits;
}

// No step of it makes a float32 subnormal: TensorFlow's threads flush those to zero.
TFDETECT_INLINE void LoadFloats(const Half* from, Float8& to) {
  UInt8x16 narrow;
  Load(from, narrow);
  const UInt8x32 wide = __builtin_convertvector(narrow, UInt8x32);
  const UInt8x32 magnitude = wide & 0x7fff;
  const UInt8x32 sign = (wide & 0x8000) << 16;
  const UInt8x32 normal = (magnitude << 13) + (112u << 23);
  const UInt8x32 special = (magnitude << 13) | 0x7f800000u;
  const UInt8x32 biased = (magnitude << 13) + (113u << 23);
  const UInt8x32 small = (UInt8x32)((Float8)biased - 6.103515625e-05f);  // 2^-14
  const UInt8x32 is_small = (UInt8x32)(magnitude < 0x400);
  const UInt8x32 is_special = (UInt8x32)(magnitude >= 0x7c00);
  const UInt8x32 bits = sign | (is_small & small) | (is_special & special) |
                        (~(is_small | is_special) & normal);
  to = (Float8)bits;
}

TFDETECT_INLINE float ToFloat(float value) { return value; }

TFDETECT_INLINE float ToFloat(BFloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline float ToFloat(Half value) {
  const uint32_t exponent = (value.bits >> 10) & 31, mantissa = value.bits & 1023;
  float magnitude;
  if (exponent == 0) {
    magnitude = std::ldexp(static_cast<float>(mantissa), -24);
  } else if (exponent == 31) {
    magnitude = mantissa ? NAN : INFINITY;
  } else {
    magnitude = std::ldexp(static_cast<float>(mantissa + 1024), static_cast<int>(exponent) - 25);
  }
  return value.bits & 0x8000 ? -magnitude : magnitude;
}

// Rounded to the nearest, ties to even.
TFDETECT_INLINE void FromFloat(float value, float* to) { *to = value; }

TFDETECT_INLINE void FromFloat(float value, BFloat16* to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = static_cast<uint16_t>(is_nan ? 0x7fc0 : rounded);
}

TFDETECT_INLINE void FromFloat(float value, Half* to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t sign = (bits >> 16) & 0x8000;
  bits &= 0x7fffffffu;
  uint32_t result;
  if (bits > 0x7f800000u) {
    result = 0x7e00;
  } else if (bits >= 0x477ff000u) {  // 65520 and more round to infinity
    result = 0x7c00;
  } else if (bits < 0x38800000u) {  // below 2^-14: adding 1/2 leaves the mantissa at the bottom
    float shifted;
    std::memcpy(&shifted, &bits, sizeof(shifted));
    shifted += 0.5f;
    std::memcpy(&result, &shifted, sizeof(result));
    result -= 0x3f000000u;
  } else {
    result = (bits - (112u << 23) + 0xfff + ((bits >> 13) & 1)) >> 13;
  }
  to->bits = static_cast<uint16_t>(sign | result);
}

template <typename V>
TFDETECT_INLINE void StoreFloats(const V& from, float* to) {
  Store(from, to);
}

template <typename V>
TFDETECT_INLINE void StoreFloats(const V& from, BFloat16* to) {
  typedef typename Bits<V>::Wide Wide;
  const Wide bits = (Wide)from;
  const Wide is_nan = (Wide)((bits & 0x7fffffffu) > 0x7f800000u);
  const Wide rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Wide result = (is_nan & 0x7fc0u) | (~is_nan & rounded);
  Store(__builtin_convertvector(result, typename Bits<V>::Narrow), to);
}

TFDETECT_INLINE void StoreFloats(const Float8& from, Half* to) {
  for (int i = 0; i < 8; ++i) FromFloat(from[i], to + i);
}

}  // namespace tfdetect

#endif  // TFDETECT_HALF_H_
