// What the tiles of matrix products of every operand type share.
#ifndef TFDETECT_MATMUL_TILE_H_
#define TFDETECT_MATMUL_TILE_H_

#include <algorithm>
#include <cstdint>

#include "matmul.h"
#include "portability.h"

namespace tfdetect {

// Of the sums, at a time, about: as much of a panel and of the rows as the nearest cache holds.
constexpr int64_t kDepth = 256;

template <typename V>
constexpr int kLanes = sizeof(V) / sizeof(float);

// Writes the sums of a tile, and what follows them, to c from its first column on; of `columns`,
// those that are left of c, there may be fewer than the tile has. `residual` is at the same place.
template <typename V, int kRows, int kColumns>
TFDETECT_INLINE void FinishTile(const float (&values)[kRows][kColumns], int64_t columns,
                                const float* bias, const float* residual, bool relu, float* c,
                                int64_t c_stride) {
  for (int r = 0; r < kRows; ++r) {
    const int64_t at = r * c_stride;
    if (kColumns <= columns) {
      for (int v = 0; v < kColumns; v += kLanes<V>) {
        V sum, other;
        Load(&values[r][v], sum);
        if (bias) {
          Load(bias + v, other);
          sum += other;
        }
        if (residual) {
          Load(residual + at + v, other);
          sum += other;
        }
        if (relu) sum = sum < V{} ? V{} : sum;  // NaN stays NaN
        Store(sum, c + at + v);
      }
    } else {
      for (int64_t j = 0; j < columns; ++j) {
        float sum = values[r][j];
        if (bias) sum += bias[j];
        if (residual) sum += residual[at + j];
        c[at + j] = relu && sum < 0.0f ? 0.0f : sum;
      }
    }
  }
}

// Calls part(begin, depth, epilogue) for parts of a sum of k, of which each adds to what c has.
template <typename Part>
void InParts(int64_t k, const Epilogue& epilogue, float* c, const Part& part) {
  const int64_t parts = std::max<int64_t>((k + kDepth / 2) / kDepth, 1);
  const int64_t step = ((k + parts - 1) / parts + 1) / 2 * 2;  // pairs stay together
  for (int64_t begin = 0; begin == 0 || begin < k; begin += step) {
    const int64_t depth = std::min(step, k - begin);
    Epilogue own = begin == 0 ? epilogue : Epilogue{nullptr, c};
    own.relu = epilogue.relu && begin + depth == k;
    own.gelu = epilogue.gelu && begin + depth == k;
    part(begin, depth, own);
  }
}

}  // namespace tfdetect

#endif  // TFDETECT_MATMUL_TILE_H_
