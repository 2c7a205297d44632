// Matrix products of bfloat16 numbers on processors that multiply them in pairs (AVX512-BF16: twice
// the rate of float32). Sums are float32.
#ifndef TFDETECT_MATMUL_BFLOAT16_H_
#define TFDETECT_MATMUL_BFLOAT16_H_

#include <cstdint>

#include "half.h"
#include "matmul.h"

namespace tfdetect {

// Whether there are such products: the processor has them, and its AVX-512 may be used.
bool HasBfloat16Products();

// b[i * row_stride + j], [k, n], to panels of kPanel columns, each [k / 2, 16, 2], padded with zeros;
// an odd k is rounded up.
void PackPairs(const BFloat16* b, int64_t row_stride, int64_t k, int64_t n, BFloat16* packed);

// c [m, n] (rows c_stride apart) = a [m, k] (rows row_stride apart) * b [k, n] (in panels of pairs),
// and `epilogue`, without its GELU. k is even. Only where `HasBfloat16Products`.
void MatMulPairs(const BFloat16* a, int64_t row_stride, const BFloat16* packed, int64_t m,
                 int64_t k, int64_t n, const Epilogue& epilogue, float* c, int64_t c_stride);

// bfloat16 to float32, and back, rounded to the nearest.
void Widen(const BFloat16* from, int64_t count, float* to);
void Narrow(const float* from, int64_t count, BFloat16* to);

// Of operands of one type: what is called where the type is a parameter.
inline void PackOperand(const float* b, int64_t row_stride, int64_t k, int64_t n, float* packed) {
  Pack(b, row_stride, 1, k, n, packed);
}
inline void PackOperand(const BFloat16* b, int64_t row_stride, int64_t k, int64_t n,
                        BFloat16* packed) {
  PackPairs(b, row_stride, k, n, packed);
}
inline void MatMulOperands(const float* a, int64_t row_stride, const float* packed, int64_t m,
                           int64_t k, int64_t n, const Epilogue& epilogue, float* c,
                           int64_t c_stride) {
  MatMul(a, row_stride, 1, packed, m, k, n, epilogue, c, c_stride);
}
inline void MatMulOperands(const BFloat16* a, int64_t row_stride, const BFloat16* packed,
                           int64_t m, int64_t k, int64_t n, const Epilogue& epilogue, float* c,
                           int64_t c_stride) {
  MatMulPairs(a, row_stride, packed, m, k, n, epilogue, c, c_stride);
}

}  // namespace tfdetect

#endif  // TFDETECT_MATMUL_BFLOAT16_H_
