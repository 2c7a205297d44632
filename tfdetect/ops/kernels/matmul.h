// Matrix products for the operators that need one, without TensorFlow.
#ifndef TFDETECT_MATMUL_H_
#define TFDETECT_MATMUL_H_

#include <cstdint>

namespace tfdetect {

// The right matrix is given in panels of this many columns, each [k, 16], padded with zeros.
constexpr int64_t kPanel = 16;

inline int64_t Panels(int64_t n) { return (n + kPanel - 1) / kPanel; }
inline int64_t PackedSize(int64_t k, int64_t n) { return Panels(n) * kPanel * k; }

// b[i * row_stride + j * column_stride], [k, n], to panels.
void Pack(const float* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t n,
          float* packed);

// Epilogue of a product: + bias [n], + residual [m, n] (with the row stride of the result, and
// possibly its old value), then ReLU or GELU.
struct Epilogue {
  const float* bias = nullptr;
  const float* residual = nullptr;
  bool relu = false;
  bool gelu = false;
};

// c [m, n] (rows c_stride apart) = a [m, k] (by its strides) * b [k, n] (packed), and `epilogue`.
// A sum does not depend on which rows are computed together.
void MatMul(const float* a, int64_t row_stride, int64_t column_stride, const float* packed,
            int64_t m, int64_t k, int64_t n, const Epilogue& epilogue, float* c, int64_t c_stride);

// c += a * b
inline void AddMatMul(const float* a, int64_t row_stride, int64_t column_stride,
                      const float* packed, int64_t m, int64_t k, int64_t n, float* c,
                      int64_t c_stride) {
  MatMul(a, row_stride, column_stride, packed, m, k, n, {nullptr, c}, c, c_stride);
}

}  // namespace tfdetect

#endif  // TFDETECT_MATMUL_H_
