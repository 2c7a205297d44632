// ROIAlign on the GPU, for features with the channels last.
//
// A warp computes one bin for a run of channels. Its lanes first find the weights of the rows and of
// the columns, a lane each, and then read along the channels: each pixel of the features is read
// once per bin however many samples fall between it and others. For the gradient a warp computes a
// few neighbouring pixels, from weights that the threads of the block find together.
#include "gpu_kernels.h"
#include "pooled_sums_gpu.h"
#include "roi_align_gpu.h"

namespace tfdetect {
namespace {

constexpr int kWarps = 4;  // in a block
constexpr int kTileH = 4;  // pixels of a block of the gradient kernel,
constexpr int kTileW = 8;  // a row of them each warp
constexpr int kBatch = 8;  // regions whose weights a block of that kernel has at a time,
constexpr int kBins = 16;  // for so many rows and columns of bins
constexpr int kThreads = kWarps * kWarp;

// One axis of one region: sampled as by SampleAxis in roi_align_axis.cc.
struct Axis {
  float start, bin_length, samples;  // samples per bin; none: 0
  bool adaptive;
  int size;  // rows or columns of the features
};

__device__ Axis MakeAxis(float low, float high, int bins, int size, int sampling_ratio,
                         bool aligned) {
  Axis axis;
  axis.start = low;
  axis.size = size;
  axis.adaptive = sampling_ratio <= 0;
  const float length = aligned ? high - low : fmaxf(high - low, 1.0f);
  axis.bin_length = length / static_cast<float>(bins);
  axis.samples =
      axis.adaptive ? ceilf(axis.bin_length) : static_cast<float>(sampling_ratio);
  if (!(axis.samples > 0.0f)) axis.samples = 0.0f;
  return axis;
}

struct Region {
  Axis y, x;
};

__device__ Region MakeRegion(const RoiAlignShape& shape, const float* box, int64_t image) {
  int rows = static_cast<int>(shape.height), columns = static_cast<int>(shape.width);
  if (shape.sizes != nullptr) {
    rows = min(max(shape.sizes[2 * image], 0), rows);
    columns = min(max(shape.sizes[2 * image + 1], 0), columns);
  }
  float corners[4];
  bool finite = true;
  for (int i = 0; i < 4; ++i) {
    const float corner = box[i] * shape.spatial_scale;
    finite = finite && isfinite(corner);
    corners[i] = fminf(fmaxf(corner - (shape.aligned ? 0.5f : 0.0f), -kFarthest), kFarthest);
  }
  Region region;
  region.y = MakeAxis(corners[1], corners[3], shape.pooled_height, rows, shape.sampling_ratio,
                      shape.aligned);
  region.x = MakeAxis(corners[0], corners[2], shape.pooled_width, columns, shape.sampling_ratio,
                      shape.aligned);
  if (!finite) region.y.samples = 0.0f;
  return region;
}

// The rows (or columns) that samples between these positions can touch: [first, end).
__device__ void Touched(const Axis& axis, float position, float other, int* first, int* end) {
  const float low = fminf(position, other), high = fmaxf(position, other);
  *first = max(static_cast<int>(floorf(low)) - 1, 0);
  *end = min(static_cast<int>(floorf(high)) + 3, axis.size);
  if (axis.samples == 0.0f) *end = *first;
}

// How much a row (or column) counts in a bin.
__device__ float Weight(const Axis& axis, int bin, int index) {
  const float bin_start = axis.start + static_cast<float>(bin) * axis.bin_length;
  float first = 0.0f, end = axis.samples;
  if (axis.adaptive && axis.samples > 1.0f) {
    // Only samples less than a pixel away.
    const float step = axis.bin_length / axis.samples;
    first = fmaxf(first, floorf((static_cast<float>(index - 1) - bin_start) / step) - 1.0f);
    end = fminf(end, ceilf((static_cast<float>(index + 1) - bin_start) / step) + 1.0f);
  }
  float weight = 0.0f;
  for (float i = first; i < end; i += 1.0f) {
    float position = bin_start + (i + 0.5f) * axis.bin_length / axis.samples;
    if (!(position >= -1.0f && position <= static_cast<float>(axis.size))) continue;
    position = fmaxf(position, 0.0f);
    const int low = static_cast<int>(position);
    const float fraction = position - static_cast<float>(low);
    if (low >= axis.size - 1) {
      if (index == axis.size - 1) weight += 1.0f;
    } else if (index == low) {
      weight += 1.0f - fraction;
    } else if (index == low + 1) {
      weight += fraction;
    }
  }
  return axis.samples > 0.0f ? weight / axis.samples : 0.0f;
}

// Grid: x over bins of all regions, y over runs of channels; block: a warp per bin.
template <typename T, int N>
__global__ void RoiAlignKernel(RoiAlignShape shape, const T* features, const float* boxes,
                               const int32_t* box_indices, int64_t num_bins, T* output) {
  const int lane = threadIdx.x;
  const int64_t bin = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.y;
  if (bin >= num_bins) return;  // the whole warp
  const int pw = static_cast<int>(bin % shape.pooled_width);
  const int ph = static_cast<int>(bin / shape.pooled_width % shape.pooled_height);
  const int64_t r = bin / shape.pooled_width / shape.pooled_height;
  const int64_t channel = (static_cast<int64_t>(blockIdx.y) * kWarp + lane) * N;
  const bool active = channel < shape.channels;
  const int64_t image = box_indices[r];
  if (image < 0 || image >= shape.images) {  // the whole warp
    const float zeros[N] = {};
    if (active) StoreSums<T, N>(zeros, output + bin * shape.channels + channel);
    return;
  }
  const Region region = MakeRegion(shape, boxes + 4 * r, image);
  const float top = region.y.start + static_cast<float>(ph) * region.y.bin_length;
  const float left = region.x.start + static_cast<float>(pw) * region.x.bin_length;
  int first_y, end_y, first_x, end_x;
  Touched(region.y, top, top + region.y.bin_length, &first_y, &end_y);
  Touched(region.x, left, left + region.x.bin_length, &first_x, &end_x);
  const T* pixels = features + image * shape.height * shape.width * shape.channels;
  float sums[N] = {};
  for (int y0 = first_y; y0 < end_y; y0 += kWarp) {
    const float row_weight = y0 + lane < end_y ? Weight(region.y, ph, y0 + lane) : 0.0f;
    for (int x0 = first_x; x0 < end_x; x0 += kWarp) {
      const float column_weight = x0 + lane < end_x ? Weight(region.x, pw, x0 + lane) : 0.0f;
      for (int y = y0; y < min(y0 + kWarp, end_y); ++y) {
        const float wy = __shfl_sync(kAllLanes, row_weight, y - y0);
        if (wy == 0.0f) continue;
        for (int x = x0; x < min(x0 + kWarp, end_x); ++x) {
          const float weight = wy * __shfl_sync(kAllLanes, column_weight, x - x0);
          if (weight == 0.0f || !active) continue;
          AddScaled<T, N>(weight, pixels + (y * shape.width + x) * shape.channels + channel, sums);
        }
      }
    }
  }
  if (active) StoreSums<T, N>(sums, output + bin * shape.channels + channel);
}

// How much the rows and columns of a tile count in bins of several regions.
struct TileWeights {
  float rows[kBatch][kTileH][kBins], columns[kBatch][kTileW][kBins];
};

// Weights of bins [ph, ph + kBins) x [pw, pw + kBins) of `count` regions, by all threads.
__device__ void FindWeights(const RoiAlignShape& shape, const Region* found, int count, int ph,
                            int pw, int tile_y, int tile_x, TileWeights* weights) {
  constexpr int kPerRegion = (kTileH + kTileW) * kBins;
  for (int i = threadIdx.y * kWarp + threadIdx.x; i < count * kPerRegion; i += kThreads) {
    const int region = i / kPerRegion, line = i % kPerRegion / kBins, bin = i % kBins;
    if (line < kTileH) {
      weights->rows[region][line][bin] =
          ph + bin < shape.pooled_height ? Weight(found[region].y, ph + bin, tile_y + line) : 0.0f;
    } else {
      const int column = line - kTileH;
      weights->columns[region][column][bin] =
          pw + bin < shape.pooled_width ? Weight(found[region].x, pw + bin, tile_x + column)
                                        : 0.0f;
    }
  }
}

// Grid: x over tiles of all images, y over runs of channels; each warp has a row of the tile.
template <typename T, int N>
__global__ void RoiAlignGradientKernel(RoiAlignShape shape, const T* grad, const float* boxes,
                                       const int32_t* box_indices, int64_t regions, T* output) {
  static_assert(kTileH == kWarps);
  __shared__ int candidates[kThreads];
  __shared__ int counts[kWarps];
  __shared__ Region found[kBatch];
  __shared__ TileWeights weights;
  const int lane = threadIdx.x, warp = threadIdx.y;
  const int64_t tiles_x = (shape.width + kTileW - 1) / kTileW;
  const int64_t tiles_y = (shape.height + kTileH - 1) / kTileH;
  const int tile_x = static_cast<int>(blockIdx.x % tiles_x) * kTileW;
  const int tile_y = static_cast<int>(blockIdx.x / tiles_x % tiles_y) * kTileH;
  const int64_t image = blockIdx.x / tiles_x / tiles_y;
  const int64_t channel = (static_cast<int64_t>(blockIdx.y) * kWarp + lane) * N;
  const bool active = channel < shape.channels;
  const int64_t num_bins = int64_t{shape.pooled_height} * shape.pooled_width;
  float sums[kTileW][N] = {};
  for (int64_t first = 0; first < regions; first += kThreads) {
    // Which of these regions reach the tile, in their order.
    const int64_t mine = first + warp * kWarp + lane;
    bool reaches = false;
    if (mine < regions && box_indices[mine] == image) {
      const Region region = MakeRegion(shape, boxes + 4 * mine, image);
      const Axis &y = region.y, &x = region.x;
      int first_y, end_y, first_x, end_x;
      Touched(y, y.start, y.start + shape.pooled_height * y.bin_length, &first_y, &end_y);
      Touched(x, x.start, x.start + shape.pooled_width * x.bin_length, &first_x, &end_x);
      reaches = first_y < tile_y + kTileH && end_y > tile_y && first_x < tile_x + kTileW &&
                end_x > tile_x;
    }
    const unsigned ballot = __ballot_sync(kAllLanes, reaches);
    if (lane == 0) counts[warp] = __popc(ballot);
    __syncthreads();
    int before = 0, count = 0;
    for (int w = 0; w < kWarps; ++w) {
      if (w < warp) before += counts[w];
      count += counts[w];
    }
    if (reaches)
      candidates[before + __popc(ballot & ((1u << lane) - 1))] = static_cast<int>(mine - first);
    __syncthreads();
    for (int batch = 0; batch < count; batch += kBatch) {
      const int size = min(kBatch, count - batch);
      if (warp == 0 && lane < size)
        found[lane] = MakeRegion(shape, boxes + 4 * (first + candidates[batch + lane]), image);
      __syncthreads();
      for (int ph = 0; ph < shape.pooled_height; ph += kBins) {
        for (int pw = 0; pw < shape.pooled_width; pw += kBins) {
          FindWeights(shape, found, size, ph, pw, tile_y, tile_x, &weights);
          __syncthreads();
          for (int i = 0; i < size; ++i) {
            const T* bins = grad + (first + candidates[batch + i]) * num_bins * shape.channels +
                            channel;
            const unsigned used_rows = __ballot_sync(
                kAllLanes, lane < kBins && weights.rows[i][warp][lane % kBins] != 0.0f);
            if (used_rows == 0) continue;
            for (int p = 0; p < kTileW; ++p) {
              const unsigned used_columns = __ballot_sync(
                  kAllLanes, lane < kBins && weights.columns[i][p][lane % kBins] != 0.0f);
              for (unsigned rows = used_rows; rows != 0; rows &= rows - 1) {
                const int row = __ffs(rows) - 1;
                const float wy = weights.rows[i][warp][row];
                for (unsigned columns = used_columns; columns != 0; columns &= columns - 1) {
                  const int column = __ffs(columns) - 1;
                  const float weight = wy * weights.columns[i][p][column];
                  const int64_t bin = (ph + row) * int64_t{shape.pooled_width} + pw + column;
                  if (active) AddScaled<T, N>(weight, bins + bin * shape.channels, sums[p]);
                }
              }
            }
          }
          __syncthreads();  // before `weights` and `found` are written again
        }
      }
    }
    __syncthreads();  // before `candidates` is written again
  }
  const int y = tile_y + warp;
  for (int p = 0; p < kTileW; ++p) {
    const int x = tile_x + p;
    if (!active || y >= shape.height || x >= shape.width) continue;
    StoreSums<T, N>(sums[p],
                    output + ((image * shape.height + y) * shape.width + x) * shape.channels +
                        channel);
  }
}

template <typename T, int N>
void LaunchTyped(const RoiAlignShape& shape, const void* features, const float* boxes,
                 const int32_t* box_indices, int64_t regions, void* output, GpuStream stream) {
  const int64_t bins = regions * shape.pooled_height * shape.pooled_width;
  const dim3 grid(static_cast<unsigned>((bins + kWarps - 1) / kWarps),
                  static_cast<unsigned>((shape.channels + kWarp * N - 1) / (kWarp * N)));
  TFDETECT_LAUNCH((RoiAlignKernel<T, N>), grid, dim3(kWarp, kWarps), stream, shape,
                  static_cast<const T*>(features), boxes, box_indices, bins,
                  static_cast<T*>(output));
}

template <typename T, int N>
void LaunchTypedGradient(const RoiAlignShape& shape, const void* grad, const float* boxes,
                         const int32_t* box_indices, int64_t regions, void* output,
                         GpuStream stream) {
  const int64_t tiles = shape.images * ((shape.height + kTileH - 1) / kTileH) *
                        ((shape.width + kTileW - 1) / kTileW);
  const dim3 grid(static_cast<unsigned>(tiles),
                  static_cast<unsigned>((shape.channels + kWarp * N - 1) / (kWarp * N)));
  TFDETECT_LAUNCH((RoiAlignGradientKernel<T, N>), grid, dim3(kWarp, kWarps), stream, shape,
                  static_cast<const T*>(grad), boxes, box_indices, regions,
                  static_cast<T*>(output));
}

}  // namespace

const char* LaunchRoiAlign(const RoiAlignShape& shape, FloatType type, const void* features,
                           const float* boxes, const int32_t* box_indices, int64_t regions,
                           void* output, GpuStream stream) {
  if (regions == 0 || shape.channels == 0) return nullptr;
  TFDETECT_DISPATCH(LaunchTyped, type, shape, features, boxes, box_indices, regions, output,
                    stream)
  return LaunchError();
}

const char* LaunchRoiAlignGradient(const RoiAlignShape& shape, FloatType type, const void* grad,
                                   const float* boxes, const int32_t* box_indices, int64_t regions,
                                   void* output, GpuStream stream) {
  if (shape.images * shape.height * shape.width * shape.channels == 0) return nullptr;
  TFDETECT_DISPATCH(LaunchTypedGradient, type, shape, grad, boxes, box_indices, regions, output,
                    stream)
  return LaunchError();
}

}  // namespace tfdetect
