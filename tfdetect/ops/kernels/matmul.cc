#include "matmul.h"

#include <algorithm>

#include "portability.h"

namespace tfdetect {
namespace {

// kRows rows of one panel: the sums stay in registers.
template <int kRows>
TFDETECT_INLINE void AddTile(const float* a, int64_t row_stride, int64_t column_stride,
                             const float* panel, int64_t k, int64_t columns, float* c,
                             int64_t c_stride) {
  Float8 left[kRows], right[kRows];
  for (int r = 0; r < kRows; ++r) left[r] = right[r] = Float8{};
  for (int64_t i = 0; i < k; ++i) {
    Float8 b0, b1;
    Load(panel + kPanel * i, b0);
    Load(panel + kPanel * i + 8, b1);
    for (int r = 0; r < kRows; ++r) {
      const float value = a[r * row_stride + i * column_stride];
      left[r] += value * b0;
      right[r] += value * b1;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* row = c + r * c_stride;
    if (columns == kPanel) {
      Float8 c0, c1;
      Load(row, c0);
      Load(row + 8, c1);
      Store(c0 + left[r], row);
      Store(c1 + right[r], row + 8);
    } else {
      for (int64_t j = 0; j < columns; ++j) row[j] += j < 8 ? left[r][j] : right[r][j - 8];
    }
  }
}

}  // namespace

void Pack(const float* b, int64_t row_stride, int64_t column_stride, int64_t k, int64_t n,
          float* packed) {
  for (int64_t first = 0; first < n; first += kPanel) {
    const int64_t columns = std::min(kPanel, n - first);
    for (int64_t i = 0; i < k; ++i, packed += kPanel) {
      for (int64_t j = 0; j < kPanel; ++j)
        packed[j] = j < columns ? b[i * row_stride + (first + j) * column_stride] : 0.0f;
    }
  }
}

TFDETECT_CLONES void AddMatMul(const float* a, int64_t row_stride, int64_t column_stride,
                               const float* packed, int64_t m, int64_t k, int64_t n, float* c,
                               int64_t c_stride) {
  for (int64_t first = 0; first < n; first += kPanel) {
    const float* panel = packed + first * k;
    const int64_t columns = std::min(kPanel, n - first);
    int64_t row = 0;
    for (; row + 6 <= m; row += 6)
      AddTile<6>(a + row * row_stride, row_stride, column_stride, panel, k, columns,
                 c + row * c_stride + first, c_stride);
    for (; row < m; ++row)
      AddTile<1>(a + row * row_stride, row_stride, column_stride, panel, k, columns,
                 c + row * c_stride + first, c_stride);
  }
}

}  // namespace tfdetect
