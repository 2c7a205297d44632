// Bilinear samples of feature maps at points on the GPU, for features with the channels last.
//
// A warp computes a point for a run of channels. For the gradient a block owns a tile of a map for a
// run of channels, a thread each: together its threads find the points near the tile, and then each
// adds them to its own channel of the sums in shared memory.
#include "gpu_kernels.h"
#include "point_sample_gpu.h"
#include "pooled_sums_gpu.h"

namespace tfdetect {
namespace {

constexpr int kWarps = 4;  // of a block, a point each
constexpr int kTile = 8;   // rows and columns of a block of the gradient kernel
constexpr int kThreads = 128;

// Grid: x over points of all rows, y over runs of channels; block: a warp per point.
template <typename T, int N>
__global__ void PointSampleKernel(PointSampleShape shape, const T* features, const float* points,
                                  const int32_t* map_indices, int64_t total, T* output) {
  const int64_t point = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.y;
  const int64_t channel = (static_cast<int64_t>(blockIdx.y) * kWarp + threadIdx.x) * N;
  if (point >= total || channel >= shape.channels) return;
  const int64_t map = map_indices[point / shape.points];
  float sums[N] = {};
  if (map >= 0 && map < shape.maps) {
    const PointCorners corners = FindCorners(shape, points + 2 * point, map);
    const T* locations = features + map * shape.height * shape.width * shape.channels + channel;
    for (int i = 0; i < corners.count; ++i) {
      const int64_t location = corners.y[i] * shape.width + corners.x[i];
      const Pack<T, N> pack =
          *reinterpret_cast<const Pack<T, N>*>(locations + location * shape.channels);
      // Not fused, as on the CPU.
      for (int n = 0; n < N; ++n) sums[n] += corners.weight[i] * ToFloat(pack.values[n]);
    }
  }
  StoreSums<T, N>(sums, output + point * shape.channels + channel);
}

// A block's tile of a map.
struct PointTile {
  int32_t y, x;

  __device__ bool Has(const PointCorners& corners, int i) const {
    return corners.y[i] >= y && corners.y[i] < y + kTile && corners.x[i] >= x &&
           corners.x[i] < x + kTile;
  }
};

// Grid: x over tiles of all maps, y over runs of channels.
template <typename T>
__global__ void PointSampleGradientKernel(PointSampleShape shape, const T* grad,
                                          const float* points, const int32_t* map_indices,
                                          int64_t rows, T* output) {
  __shared__ float sums[kTile * kTile][kThreads];
  __shared__ PointCorners found[kThreads];
  __shared__ unsigned hits[kThreads / kWarp];  // the points of each warp that touch the tile
  const int64_t across = (shape.width + kTile - 1) / kTile;
  const int64_t down = (shape.height + kTile - 1) / kTile;
  const int64_t map = blockIdx.x / (across * down);
  const PointTile tile = {static_cast<int32_t>(blockIdx.x / across % down * kTile),
                          static_cast<int32_t>(blockIdx.x % across * kTile)};
  const int thread = threadIdx.x;
  const int64_t channel = static_cast<int64_t>(blockIdx.y) * kThreads + thread;
  const bool active = channel < shape.channels;
  for (int i = 0; i < kTile * kTile; ++i) sums[i][thread] = 0.0f;
  for (int64_t row = 0; row < rows; ++row) {
    if (map_indices[row] != map) continue;
    for (int64_t begin = 0; begin < shape.points; begin += kThreads) {
      __syncthreads();  // the last points are no longer needed
      bool hit = false;
      if (begin + thread < shape.points) {
        const int64_t point = row * shape.points + begin + thread;
        const PointCorners corners = FindCorners(shape, points + 2 * point, map);
        for (int i = 0; i < corners.count; ++i) hit = hit || tile.Has(corners, i);
        found[thread] = corners;
      }
      const unsigned of_warp = __ballot_sync(kAllLanes, hit);
      if (thread % kWarp == 0) hits[thread / kWarp] = of_warp;
      __syncthreads();
      for (int warp = 0; warp < kThreads / kWarp; ++warp) {
        for (unsigned left = hits[warp]; left != 0; left &= left - 1) {
          const int which = warp * kWarp + __ffs(left) - 1;
          const PointCorners& corners = found[which];
          const int64_t point = row * shape.points + begin + which;
          const float value = active ? ToFloat(grad[point * shape.channels + channel]) : 0.0f;
          for (int i = 0; i < corners.count; ++i) {
            if (!tile.Has(corners, i)) continue;
            const int location = (corners.y[i] - tile.y) * kTile + corners.x[i] - tile.x;
            sums[location][thread] += corners.weight[i] * value;
          }
        }
      }
    }
  }
  if (!active) return;
  for (int i = 0; i < kTile * kTile; ++i) {
    const int64_t y = tile.y + i / kTile, x = tile.x + i % kTile;
    if (y >= shape.height || x >= shape.width) continue;
    const int64_t location = (map * shape.height + y) * shape.width + x;
    FromFloat(sums[i][thread], output + location * shape.channels + channel);
  }
}

template <typename T, int N>
void LaunchTyped(const PointSampleShape& shape, const void* features, const float* points,
                 const int32_t* map_indices, int64_t total, void* output, GpuStream stream) {
  const dim3 grid(static_cast<unsigned>((total + kWarps - 1) / kWarps),
                  static_cast<unsigned>((shape.channels + kWarp * N - 1) / (kWarp * N)));
  TFDETECT_LAUNCH((PointSampleKernel<T, N>), grid, dim3(kWarp, kWarps), stream, shape,
                  static_cast<const T*>(features), points, map_indices, total,
                  static_cast<T*>(output));
}

template <typename T>
void LaunchTypedGradient(const PointSampleShape& shape, const void* grad, const float* points,
                         const int32_t* map_indices, int64_t rows, void* output,
                         GpuStream stream) {
  const int64_t tiles =
      ((shape.width + kTile - 1) / kTile) * ((shape.height + kTile - 1) / kTile);
  const dim3 grid(static_cast<unsigned>(shape.maps * tiles),
                  static_cast<unsigned>((shape.channels + kThreads - 1) / kThreads));
  TFDETECT_LAUNCH((PointSampleGradientKernel<T>), grid, dim3(kThreads), stream, shape,
                  static_cast<const T*>(grad), points, map_indices, rows,
                  static_cast<T*>(output));
}

}  // namespace

const char* LaunchPointSample(const PointSampleShape& shape, FloatType type, const void* features,
                              const float* points, const int32_t* map_indices, int64_t rows,
                              void* output, GpuStream stream) {
  const int64_t total = rows * shape.points;
  if (total * shape.channels == 0) return nullptr;
  TFDETECT_DISPATCH(LaunchTyped, type, shape, features, points, map_indices, total, output, stream)
  return LaunchError();
}

const char* LaunchPointSampleGradient(const PointSampleShape& shape, FloatType type,
                                      const void* grad, const float* points,
                                      const int32_t* map_indices, int64_t rows, void* output,
                                      GpuStream stream) {
  if (shape.maps * shape.height * shape.width * shape.channels == 0) return nullptr;
  switch (type) {
    case FloatType::kFloat:
      LaunchTypedGradient<float>(shape, grad, points, map_indices, rows, output, stream);
      break;
    case FloatType::kHalf:
      LaunchTypedGradient<__half>(shape, grad, points, map_indices, rows, output, stream);
      break;
    case FloatType::kBFloat16:
      LaunchTypedGradient<__nv_bfloat16>(shape, grad, points, map_indices, rows, output, stream);
      break;
  }
  return LaunchError();
}

}  // namespace tfdetect
