#include "matmul.h"

#include <algorithm>
#include <memory>

#include "instruction_set.h"
#include "matmul_tile.h"
#include "portability.h"
#include "vector_maths.h"

namespace tfdetect {
namespace {

// The operands of one product.
struct Operands {
  const float* a;
  int64_t row_stride, column_stride;
  const float* packed;
  int64_t panel_stride;
  int64_t m, k, n;
  Epilogue epilogue;
  float* c;
  int64_t c_stride;
};

// kRows rows of kPanels panels from (row, column) on: the sums stay in registers.
template <typename V, int kRows, int kPanels>
TFDETECT_INLINE void Tile(const Operands& o, int64_t row, int64_t column) {
  constexpr int kPerPanel = kPanel / kLanes<V>, kVectors = kPanels * kPerPanel;
  const float* a = o.a + row * o.row_stride;
  const float* panel = o.packed + column / kPanel * o.panel_stride;
  V sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) sums[r][v] = V{};
  for (int64_t i = 0; i < o.k; ++i) {
    V b[kVectors];
    for (int v = 0; v < kVectors; ++v)
      Load(panel + v / kPerPanel * o.panel_stride + kPanel * i + v % kPerPanel * kLanes<V>, b[v]);
    for (int r = 0; r < kRows; ++r) {
      const float value = a[r * o.row_stride + i * o.column_stride];
      for (int v = 0; v < kVectors; ++v) sums[r][v] += value * b[v];
    }
  }
  // Every use of the sums is unrolled, so that they do not become an array in memory: GCC 11 would
  // store to it in the loop above, which then takes three times as long.
  alignas(V) float values[kRows][kPanels * kPanel];
  TFDETECT_UNROLL for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) Store(sums[r][v], &values[r][v * kLanes<V>]);
  const Epilogue& e = o.epilogue;
  const int64_t at = row * o.c_stride + column;
  FinishTile<V>(values, o.n - column, e.bias ? e.bias + column : nullptr,
                e.residual ? e.residual + at : nullptr, e.relu, o.c + at, o.c_stride);
}

// Rows from `row` on, kRows at a time while there are that many; the next row.
template <typename V, int kRows, int kPanels>
TFDETECT_INLINE int64_t Tiles(const Operands& o, int64_t row, int64_t column) {
  for (; row + kRows <= o.m; row += kRows) Tile<V, kRows, kPanels>(o, row, column);
  return row;
}

// GELU of `columns` columns of c. It is not inlined in what follows, whose sums would no longer stay
// in registers.
TFDETECT_INLINE void GeluLoop(float* c, int64_t stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; ++row, c += stride) {
    int64_t i = 0;
    for (; i + 8 <= columns; i += 8) {
      Float8 value;
      Load(c + i, value);
      Gelu(value, value);
      Store(value, c + i);
    }
    for (; i < columns; ++i) {
      Float8 value = Float8{} + c[i];
      Gelu(value, value);
      c[i] = value[0];
    }
  }
}
const auto ApplyGelu = BestVersion<GeluLoop>();

// What is left to do for so many columns from `column` on, while they are in the nearest cache.
TFDETECT_INLINE void FinishColumns(const Operands& o, int64_t column, int64_t columns) {
  if (o.epilogue.gelu)
    ApplyGelu(o.c + column, o.c_stride, o.m, std::min(columns, o.n - column));
}

// A panel stays in the nearest cache while all rows go past it. 6 rows of 16 columns are 12 of the
// 16 registers of AVX2.
TFDETECT_INLINE void MultiplyLoop(const Operands& o) {
  for (int64_t column = 0; column < o.n; column += kPanel) {
    int64_t row = Tiles<Float8, 6, 1>(o, 0, column);
    row = Tiles<Float8, 3, 1>(o, row, column);
    Tiles<Float8, 1, 1>(o, row, column);
    FinishColumns(o, column, kPanel);
  }
}

// For AVX-512: 12 rows of 32 columns are 24 of the 32 registers.
TFDETECT_INLINE void MultiplyWideLoop(const Operands& o) {
  int64_t column = 0;
  for (; column + 2 * kPanel <= o.n; column += 2 * kPanel) {
    int64_t row = Tiles<Float16, 12, 2>(o, 0, column);
    row = Tiles<Float16, 4, 2>(o, row, column);
    Tiles<Float16, 1, 2>(o, row, column);
    FinishColumns(o, column, 2 * kPanel);
  }
  for (; column < o.n; column += kPanel) {
    int64_t row = Tiles<Float16, 12, 1>(o, 0, column);
    Tiles<Float16, 1, 1>(o, row, column);
    FinishColumns(o, column, kPanel);
  }
}

const auto Multiply = BestVersion<MultiplyLoop, MultiplyWideLoop>();

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

void MatMul(const float* a, int64_t row_stride, int64_t column_stride, const float* packed,
            int64_t m, int64_t k, int64_t n, const Epilogue& epilogue, float* c,
            int64_t c_stride) {
  // Parts of rows that lie far apart fall into few sets of the caches: where they are read more
  // than a few times they are put together, not at a power of two.
  const bool copied = k >= kDepth * 3 / 2 && column_stride == 1 && n >= 8 * kPanel;
  constexpr int64_t kCopyStride = kDepth * 3 / 2 + 16;
  const std::unique_ptr<float[]> rows(copied ? new float[m * kCopyStride] : nullptr);
  InParts(k, epilogue, c, [&](int64_t begin, int64_t depth, const Epilogue& part) {
    for (int64_t row = 0; copied && row < m; ++row)
      std::copy_n(a + row * row_stride + begin, depth, &rows[row * kCopyStride]);
    Multiply({copied ? rows.get() : a + begin * column_stride, copied ? kCopyStride : row_stride,
              column_stride, packed + begin * kPanel, k * kPanel, m, depth, n, part, c, c_stride});
  });
}

}  // namespace tfdetect
