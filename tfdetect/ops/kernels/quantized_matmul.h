// Products of matrices of small integers, exact in int32 (modulo 2^32).
//
// Two forms, which processors differ in: pairs, int16 by int16, whose products are added in twos
// (AVX2's vpmaddwd), and quads, uint8 by int8, in fours (vpdpbusd of AVX-512's VNNI: UsesVnni).
// Both work, slowly, on every processor. Right matrices are in panels of kPanel columns, padded
// with zeros; of left ones rows are padded to whole pairs or quads, with any values.
#ifndef TFDETECT_QUANTIZED_MATMUL_H_
#define TFDETECT_QUANTIZED_MATMUL_H_

#include <cstdint>

#include "matmul.h"

namespace tfdetect {

constexpr int64_t kPair = 2, kQuad = 4;

inline int64_t RoundUp(int64_t k, int64_t part) { return (k + part - 1) / part * part; }

// b [k, n] to panels [Panels(n), RoundUp(k, part) / part, kPanel, part].
void PackPairs(const int16_t* b, int64_t k, int64_t n, int16_t* packed);
void PackQuads(const int8_t* b, int64_t k, int64_t n, int8_t* packed);

// sums [m, kPanel panels] (rows sums_stride apart) = a [m, k] (rows a_stride apart) * so many
// panels, which are one after another.
void MultiplyPairs(const int16_t* a, int64_t a_stride, const int16_t* packed, int64_t m, int64_t k,
                   int64_t panels, int32_t* sums, int64_t sums_stride);

// The same, plus initial [kPanel panels].
void MultiplyQuads(const uint8_t* a, int64_t a_stride, const int8_t* packed, int64_t m, int64_t k,
                   int64_t panels, const int32_t* initial, int32_t* sums, int64_t sums_stride);

}  // namespace tfdetect

#endif  // TFDETECT_QUANTIZED_MATMUL_H_
