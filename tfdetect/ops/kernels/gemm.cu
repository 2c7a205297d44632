// Products of float32 matrices on the GPU: a block computes a tile of the result, each of its
// threads 8 x 4 values, from tiles of both factors that pass through the block's memory. The next
// tiles are read while the sums of the present ones are formed.
#include "gemm_gpu.h"
#include "gpu_kernels.h"

namespace tfdetect {
namespace {

constexpr int kRows = 128;    // of the result's tile,
constexpr int kColumns = 64;  // that a block computes
constexpr int kDepth = 16;    // of the factors' tiles
constexpr int kEach = 4;      // neighbouring values that are read at once
constexpr int kSide = kColumns / kEach;
constexpr int kThreads = kRows / (2 * kEach) * kSide;
// So that fewer threads write to one bank of the block's memory.
constexpr int kPad = kEach;

template <int kLines>
struct alignas(16) Tile {
  float values[kDepth][kLines + kPad];
};

// A factor as lines (rows of a, columns of b) by depth.
struct Lines {
  const float* data;
  int64_t line_stride, depth_stride, lines, depths;
  bool packs;  // four neighbours along the stride of 1 lie in 16 bytes that can be read at once
};

// What one thread has of a tile of kLines lines from `line`.
template <int kLines>
struct Part {
  static constexpr int kPacks = kLines * kDepth / kEach / kThreads;
  Pack<float, kEach> packs[kPacks];

  // Pack p of the tile: its first line and depth. Neighbouring threads have neighbouring packs.
  __device__ static void Place(int p, bool by_line, int* line, int* depth) {
    const int pack = p * kThreads + threadIdx.x;
    *line = by_line ? pack % (kLines / kEach) * kEach : pack / (kDepth / kEach);
    *depth = by_line ? pack / (kLines / kEach) : pack % (kDepth / kEach) * kEach;
  }

  // Zeros beyond the matrix.
  __device__ void Read(const Lines& from, int64_t first_line, int64_t first_depth) {
    const bool by_line = from.line_stride == 1;
    for (int p = 0; p < kPacks; ++p) {
      int l, d;
      Place(p, by_line, &l, &d);
      const int64_t line = first_line + l, depth = first_depth + d;
      const float* data = from.data + line * from.line_stride + depth * from.depth_stride;
      const int64_t left = by_line ? from.lines - line : from.depths - depth;
      const bool inside = by_line ? depth < from.depths : line < from.lines;
      if (inside && left >= kEach && from.packs) {
        packs[p] = *reinterpret_cast<const Pack<float, kEach>*>(data);
        continue;
      }
      const int64_t stride = by_line ? from.line_stride : from.depth_stride;
      for (int i = 0; i < kEach; ++i)
        packs[p].values[i] = inside && i < left ? data[i * stride] : 0.0f;
    }
  }

  __device__ void Write(bool by_line, Tile<kLines>* tile) const {
    for (int p = 0; p < kPacks; ++p) {
      int l, d;
      Place(p, by_line, &l, &d);
      for (int i = 0; i < kEach; ++i)
        tile->values[by_line ? d : d + i][by_line ? l + i : l] = packs[p].values[i];
    }
  }
};

// Grid: x over tiles of rows, y over tiles of columns, z over groups.
__global__ void GemmKernel(Lines a, Lines b, int64_t a_group_stride, int64_t b_group_stride,
                           bool accumulate, float* c, int64_t c_row_stride,
                           int64_t c_group_stride) {
  __shared__ Tile<kRows> a_tile;
  __shared__ Tile<kColumns> b_tile;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRows;
  const int64_t column = static_cast<int64_t>(blockIdx.y) * kColumns;
  const int64_t group = blockIdx.z;
  a.data += group * a_group_stride;
  b.data += group * b_group_stride;
  c += group * c_group_stride;
  // Two runs of rows, half a tile apart, so that a warp's reads fall on all banks.
  const int own_row = static_cast<int>(threadIdx.x) / kSide * kEach;
  const int own_column = static_cast<int>(threadIdx.x) % kSide * kEach;
  float sums[2][kEach][kEach] = {};
  Part<kRows> a_part;
  Part<kColumns> b_part;
  a_part.Read(a, row, 0);
  b_part.Read(b, column, 0);
  for (int64_t depth = 0; depth < a.depths; depth += kDepth) {
    a_part.Write(a.line_stride == 1, &a_tile);
    b_part.Write(b.line_stride == 1, &b_tile);
    __syncthreads();
    if (depth + kDepth < a.depths) {
      a_part.Read(a, row, depth + kDepth);
      b_part.Read(b, column, depth + kDepth);
    }
    for (int d = 0; d < kDepth; ++d) {
      const auto y = *reinterpret_cast<const Pack<float, kEach>*>(&b_tile.values[d][own_column]);
      for (int half = 0; half < 2; ++half) {
        const auto x = *reinterpret_cast<const Pack<float, kEach>*>(
            &a_tile.values[d][own_row + half * (kRows / 2)]);
        for (int i = 0; i < kEach; ++i) {
          for (int j = 0; j < kEach; ++j)
            sums[half][i][j] = fmaf(x.values[i], y.values[j], sums[half][i][j]);
        }
      }
    }
    __syncthreads();  // before the tiles are written again
  }
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < kEach; ++i) {
      const int64_t r = row + own_row + half * (kRows / 2) + i;
      for (int j = 0; j < kEach && r < a.lines && column + own_column + j < b.lines; ++j) {
        float* to = c + r * c_row_stride + column + own_column + j;
        *to = accumulate ? *to + sums[half][i][j] : sums[half][i][j];
      }
    }
  }
}

Lines MakeLines(const GpuMatrix& matrix, int64_t line_stride, int64_t depth_stride, int64_t lines,
                int64_t depths) {
  const int64_t other = line_stride == 1 ? depth_stride : line_stride;
  const bool packs = (line_stride == 1 || depth_stride == 1) && other % kEach == 0 &&
                     matrix.group_stride % kEach == 0 &&
                     reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0;
  return {matrix.data, line_stride, depth_stride, lines, depths, packs};
}

}  // namespace

void LaunchGemm(const GpuMatrix& a, const GpuMatrix& b, int64_t groups, int64_t m, int64_t k,
                int64_t n, bool accumulate, float* c, int64_t c_row_stride,
                int64_t c_group_stride, GpuStream stream) {
  const dim3 grid(static_cast<unsigned>((m + kRows - 1) / kRows),
                  static_cast<unsigned>((n + kColumns - 1) / kColumns),
                  static_cast<unsigned>(groups));
  TFDETECT_LAUNCH(GemmKernel, grid, dim3(kThreads), stream,
                  MakeLines(a, a.row_stride, a.column_stride, m, k),
                  MakeLines(b, b.column_stride, b.row_stride, n, k), a.group_stride,
                  b.group_stride, accumulate, c, c_row_stride, c_group_stride);
}

}  // namespace tfdetect
