// A small matrix product for the operators that need one, without TensorFlow.
#ifndef TFDETECT_MATMUL_H_
#define TFDETECT_MATMUL_H_

#include <cstdint>

namespace tfdetect {

// The right matrix is given in panels of this many columns, each [k, 16], padded with zeros.
constexpr int64_t kPanel = 16;

inline int64_t PackedSize(int64_t k, int64_t n) { return (n + kPanel - 1) / kPanel * kPanel * k; }

// b[i * row_stride + j * column_stride], [k, n], to panels.
void Pack(const float* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t n,
          float* packed);

// c [m, n] (rows c_stride apart) += a [m, k] (by its strides) * b [k, n] (packed).
void AddMatMul(const float* a, int64_t row_stride, int64_t column_stride, const float* packed,
               int64_t m, int64_t k, int64_t n, float* c, int64_t c_stride);

}  // namespace tfdetect

#endif  // TFDETECT_MATMUL_H_
