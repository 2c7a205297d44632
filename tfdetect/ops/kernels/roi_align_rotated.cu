// ROIAlign of rotated boxes on the GPU, for features with the channels last.
//
// A warp computes one bin for a run of channels, sample by sample. For the gradient a warp computes
// a few neighbouring pixels: its lanes find the weights of the samples that may touch a pixel, a
// lane each, and then read along the channels.
#include "gpu_kernels.h"
#include "pooled_sums_gpu.h"
#include "roi_align_rotated_gpu.h"
#include "roi_align_rotated_grid.h"

namespace tfdetect {
namespace {

constexpr int kWarps = 4;  // in a block
constexpr int kTileH = 4;  // pixels of a block of the gradient kernel,
constexpr int kTileW = 8;  // a row of them each warp
constexpr int kThreads = kWarps * kWarp;

__device__ void SamplePosition(const RotatedGrid& grid, float along_y, float along_x, float* y,
                               float* x) {
  *y = along_y * grid.cos - along_x * grid.sin + grid.center_y;
  *x = along_y * grid.sin + along_x * grid.cos + grid.center_x;
}

// Grid: x over bins of all regions, y over runs of channels; block: a warp per bin.
template <typename T, int N>
__global__ void RoiAlignRotatedKernel(RoiAlignShape shape, const T* features, const float* boxes,
                                      const int32_t* box_indices, int64_t num_bins, T* output) {
  const int64_t bin = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.y;
  if (bin >= num_bins) return;
  const int pw = static_cast<int>(bin % shape.pooled_width);
  const int ph = static_cast<int>(bin / shape.pooled_width % shape.pooled_height);
  const int64_t r = bin / shape.pooled_width / shape.pooled_height;
  const int64_t channel = (static_cast<int64_t>(blockIdx.y) * kWarp + threadIdx.x) * N;
  if (channel >= shape.channels) return;
  const int64_t image = box_indices[r];
  float sums[N] = {};
  if (image >= 0 && image < shape.images) {
    const RotatedGrid grid = MakeRotatedGrid(shape, boxes + 5 * r, image);
    const float count = static_cast<float>(grid.samples_y) * static_cast<float>(grid.samples_x);
    const T* pixels = features + image * shape.height * shape.width * shape.channels + channel;
    for (int iy = 0; iy < grid.samples_y; ++iy) {
      const float along_y = SampleAlong(grid.start_y, grid.bin_y, ph, iy, grid.samples_y);
      int first, end;
      SamplesOfLine(grid, pw, along_y, 0, grid.rows, &first, &end);
      for (int ix = first; ix < end; ++ix) {
        const float along_x = SampleAlong(grid.start_x, grid.bin_x, pw, ix, grid.samples_x);
        float y, x;
        SamplePosition(grid, along_y, along_x, &y, &x);
        Neighbours rows, columns;
        if (!FindNeighbours(y, grid.rows, &rows) || !FindNeighbours(x, grid.columns, &columns))
          continue;
        const float weights[2] = {rows.low_weight / count, rows.high_weight / count};
        const int32_t lines[2] = {rows.low, rows.high};
        for (int i = 0; i < 2; ++i) {
          const T* line = pixels + lines[i] * shape.width * shape.channels;
          AddScaled<T, N>(weights[i] * columns.low_weight, line + columns.low * shape.channels,
                          sums);
          AddScaled<T, N>(weights[i] * columns.high_weight, line + columns.high * shape.channels,
                          sums);
        }
      }
    }
  }
  StoreSums<T, N>(sums, output + bin * shape.channels + channel);
}

// How much a sample at `position` counts at a pixel, along one axis.
__device__ float WeightAt(float position, int32_t size, int32_t pixel) {
  Neighbours found;
  if (!FindNeighbours(position, size, &found)) return 0.0f;
  if (found.low == pixel) return found.low_weight;
  return found.high == pixel ? found.high_weight : 0.0f;
}

// Along one axis of the features, samples that may touch a pixel: the middle of where they are, and
// how far they are from it.
__device__ void Surroundings(int32_t pixel, int32_t size, float* middle, float* reach) {
  const float low = static_cast<float>(pixel - 1);
  const float high = static_cast<float>(pixel == size - 1 ? size : pixel + 1);
  *middle = 0.5f * (low + high);
  *reach = 0.5f * (high - low);
}

// The samples of all bins along one side of the box, [*first, *end) of them, that are within
// `reach` of `middle`.
__device__ void SamplesWithin(float middle, float reach, float start, float bin_length,
                              int32_t samples, int32_t bins, int32_t* first, int32_t* end) {
  *first = 0;
  *end = samples * bins;
  const float step = bin_length / static_cast<float>(samples);
  if (step < 1e-3f) return;
  const float low = floorf((middle - reach - start) / step) - 1.0f;
  const float high = ceilf((middle + reach - start) / step) + 1.0f;
  const float count = static_cast<float>(*end);
  *first = static_cast<int32_t>(Within(low, 0.0f, count));
  *end = static_cast<int32_t>(Within(high, 0.0f, count));
}

// Whether the box's samples can touch the tile.
__device__ bool Reaches(const RotatedGrid& grid, int tile_y, int tile_x) {
  if (grid.samples_y == 0) return false;
  const float cos = fabsf(grid.cos), sin = fabsf(grid.sin);
  const float reach_y = -grid.start_y * cos - grid.start_x * sin + 2.0f;
  const float reach_x = -grid.start_y * sin - grid.start_x * cos + 2.0f;
  const float top = static_cast<float>(tile_y), left = static_cast<float>(tile_x);
  return grid.center_y - reach_y < top + kTileH && grid.center_y + reach_y > top &&
         grid.center_x - reach_x < left + kTileW && grid.center_x + reach_x > left;
}

// Adds to the sums of one pixel what a region's samples give it; by the whole warp.
template <typename T, int N>
__device__ void GatherPixel(const RoiAlignShape& shape, const RotatedGrid& grid, int y, int x,
                            const T* bins, bool active, float* sums) {
  float middle_y, middle_x, reach_y, reach_x;
  Surroundings(y, grid.rows, &middle_y, &reach_y);
  Surroundings(x, grid.columns, &middle_x, &reach_x);
  const float dy = middle_y - grid.center_y, dx = middle_x - grid.center_x;
  const float cos = fabsf(grid.cos), sin = fabsf(grid.sin);
  int first_y, end_y, first_x, end_x;
  SamplesWithin(dy * grid.cos + dx * grid.sin, reach_y * cos + reach_x * sin, grid.start_y,
                grid.bin_y, grid.samples_y, shape.pooled_height, &first_y, &end_y);
  SamplesWithin(dx * grid.cos - dy * grid.sin, reach_y * sin + reach_x * cos, grid.start_x,
                grid.bin_x, grid.samples_x, shape.pooled_width, &first_x, &end_x);
  const int across = end_x - first_x;
  if (across <= 0 || end_y <= first_y) return;
  const int64_t total = static_cast<int64_t>(end_y - first_y) * across;
  const float count = static_cast<float>(grid.samples_y) * static_cast<float>(grid.samples_x);
  for (int64_t begin = 0; begin < total; begin += kWarp) {
    const int64_t mine = begin + threadIdx.x;
    float weight = 0.0f;
    if (mine < total) {
      const int iy = first_y + static_cast<int>(mine / across);
      const int ix = first_x + static_cast<int>(mine % across);
      const float along_y = SampleAlong(grid.start_y, grid.bin_y, iy / grid.samples_y,
                                        iy % grid.samples_y, grid.samples_y);
      const float along_x = SampleAlong(grid.start_x, grid.bin_x, ix / grid.samples_x,
                                        ix % grid.samples_x, grid.samples_x);
      float sample_y, sample_x;
      SamplePosition(grid, along_y, along_x, &sample_y, &sample_x);
      weight = WeightAt(sample_y, grid.rows, y) / count * WeightAt(sample_x, grid.columns, x);
    }
    for (unsigned found = __ballot_sync(kAllLanes, weight != 0.0f); found != 0;
         found &= found - 1) {
      const int lane = __ffs(found) - 1;
      const float lane_weight = __shfl_sync(kAllLanes, weight, lane);
      const int iy = first_y + static_cast<int>((begin + lane) / across);
      const int ix = first_x + static_cast<int>((begin + lane) % across);
      const int bin = iy / grid.samples_y * shape.pooled_width + ix / grid.samples_x;
      if (active) AddScaled<T, N>(lane_weight, bins + bin * shape.channels, sums);
    }
  }
}

// Grid: x over tiles of all images, y over runs of channels; each warp has a row of the tile.
template <typename T, int N>
__global__ void RoiAlignRotatedGradientKernel(RoiAlignShape shape, const T* grad,
                                              const float* boxes, const int32_t* box_indices,
                                              int64_t regions, T* output) {
  static_assert(kTileH == kWarps);
  __shared__ int candidates[kThreads];
  __shared__ int counts[kWarps];
  const int lane = threadIdx.x, warp = threadIdx.y;
  const int64_t tiles_x = (shape.width + kTileW - 1) / kTileW;
  const int64_t tiles_y = (shape.height + kTileH - 1) / kTileH;
  const int tile_x = static_cast<int>(blockIdx.x % tiles_x) * kTileW;
  const int tile_y = static_cast<int>(blockIdx.x / tiles_x % tiles_y) * kTileH;
  const int64_t image = blockIdx.x / tiles_x / tiles_y;
  const int64_t channel = (static_cast<int64_t>(blockIdx.y) * kWarp + lane) * N;
  const bool active = channel < shape.channels;
  const int64_t num_bins = int64_t{shape.pooled_height} * shape.pooled_width;
  const int y = tile_y + warp;
  float sums[kTileW][N] = {};
  for (int64_t first = 0; first < regions; first += kThreads) {
    // Which of these regions reach the tile, in their order.
    const int64_t mine = first + warp * kWarp + lane;
    const bool reaches = mine < regions && box_indices[mine] == image &&
                         Reaches(MakeRotatedGrid(shape, boxes + 5 * mine, image), tile_y, tile_x);
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
    for (int i = 0; i < count; ++i) {
      const int64_t region = first + candidates[i];
      const RotatedGrid grid = MakeRotatedGrid(shape, boxes + 5 * region, image);
      const T* bins = grad + region * num_bins * shape.channels + channel;
      for (int p = 0; p < kTileW; ++p) {
        const int x = tile_x + p;
        if (y < grid.rows && x < grid.columns)  // the whole warp
          GatherPixel<T, N>(shape, grid, y, x, bins, active, sums[p]);
      }
    }
    __syncthreads();  // before `candidates` is written again
  }
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
  TFDETECT_LAUNCH((RoiAlignRotatedKernel<T, N>), grid, dim3(kWarp, kWarps), stream, shape,
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
  TFDETECT_LAUNCH((RoiAlignRotatedGradientKernel<T, N>), grid, dim3(kWarp, kWarps), stream, shape,
                  static_cast<const T*>(grad), boxes, box_indices, regions,
                  static_cast<T*>(output));
}

}  // namespace

const char* LaunchRoiAlignRotated(const RoiAlignShape& shape, FloatType type, const void* features,
                                  const float* boxes, const int32_t* box_indices, int64_t regions,
                                  void* output, GpuStream stream) {
  if (regions == 0 || shape.channels == 0) return nullptr;
  TFDETECT_DISPATCH(LaunchTyped, type, shape, features, boxes, box_indices, regions, output,
                    stream)
  return LaunchError();
}

const char* LaunchRoiAlignRotatedGradient(const RoiAlignShape& shape, FloatType type,
                                          const void* grad, const float* boxes,
                                          const int32_t* box_indices, int64_t regions,
                                          void* output, GpuStream stream) {
  if (shape.images * shape.height * shape.width * shape.channels == 0) return nullptr;
  TFDETECT_DISPATCH(LaunchTypedGradient, type, shape, grad, boxes, box_indices, regions, output,
                    stream)
  return LaunchError();
}

}  // namespace tfdetect
