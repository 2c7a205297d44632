// Products of float32 matrices on the GPU: a block computes a tile of the result, each of its
// threads 4 x 4 values, from tiles of both factors that pass through the block's memory.
#include "gemm_gpu.h"
#include "gpu_kernels.h"

namespace tfdetect {
namespace {

constexpr int kTile = 64;   // rows and columns of the result
constexpr int kDepth = 16;  // of the factors' tiles
constexpr int kEach = 4;    // rows and columns of a thread
constexpr int kSide = kTile / kEach;
constexpr int kThreads = kSide * kSide;
constexpr int kPadded = kTile + kEach;  // so that fewer threads write to one bank of memory

struct alignas(16) Factors {
  float values[kDepth][kPadded];
};

// Reads lines [line, line + kTile) of depth [depth, depth + kDepth); zeros beyond their ends.
__device__ void LoadTile(const float* data, int64_t line_stride, int64_t depth_stride,
                         int64_t line, int64_t lines, int64_t depth, int64_t depths,
                         Factors* tile) {
  for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
    // Neighbouring threads read neighbouring elements.
    const bool by_line = line_stride == 1;
    const int l = by_line ? i % kTile : i / kDepth, d = by_line ? i / kTile : i % kDepth;
    const bool inside = line + l < lines && depth + d < depths;
    tile->values[d][l] =
        inside ? data[(line + l) * line_stride + (depth + d) * depth_stride] : 0.0f;
  }
}

// Grid: x over tiles of rows, y over tiles of columns, z over groups.
__global__ void GemmKernel(GpuMatrix a, GpuMatrix b, int64_t m, int64_t k, int64_t n,
                           bool accumulate, float* c, int64_t c_row_stride,
                           int64_t c_group_stride) {
  __shared__ Factors a_tile, b_tile;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kTile;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t group = blockIdx.z;
  const int own_row = static_cast<int>(threadIdx.x) / kSide * kEach;
  const int own_column = static_cast<int>(threadIdx.x) % kSide * kEach;
  float sums[kEach][kEach] = {};
  for (int64_t depth = 0; depth < k; depth += kDepth) {
    LoadTile(a.data + group * a.group_stride, a.row_stride, a.column_stride, row, m, depth, k,
             &a_tile);
    LoadTile(b.data + group * b.group_stride, b.column_stride, b.row_stride, column, n, depth, k,
             &b_tile);
    __syncthreads();
    for (int d = 0; d < kDepth; ++d) {
      const auto x = *reinterpret_cast<const Pack<float, kEach>*>(&a_tile.values[d][own_row]);
      const auto y = *reinterpret_cast<const Pack<float, kEach>*>(&b_tile.values[d][own_column]);
      for (int i = 0; i < kEach; ++i) {
        for (int j = 0; j < kEach; ++j) sums[i][j] = fmaf(x.values[i], y.values[j], sums[i][j]);
      }
    }
    __syncthreads();  // before the tiles are written again
  }
  for (int i = 0; i < kEach && row + own_row + i < m; ++i) {
    for (int j = 0; j < kEach && column + own_column + j < n; ++j) {
      float* to = c + group * c_group_stride + (row + own_row + i) * c_row_stride + column +
                  own_column + j;
      *to = accumulate ? *to + sums[i][j] : sums[i][j];
    }
  }
}

}  // namespace

void LaunchGemm(const GpuMatrix& a, const GpuMatrix& b, int64_t groups, int64_t m, int64_t k,
                int64_t n, bool accumulate, float* c, int64_t c_row_stride,
                int64_t c_group_stride, GpuStream stream) {
  const dim3 grid(static_cast<unsigned>((m + kTile - 1) / kTile),
                  static_cast<unsigned>((n + kTile - 1) / kTile), static_cast<unsigned>(groups));
  TFDETECT_LAUNCH(GemmKernel, grid, dim3(kThreads), stream, a, b, m, k, n, accumulate, c,
                  c_row_stride, c_group_stride);
}

}  // namespace tfdetect
