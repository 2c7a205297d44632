// ROIPool on the GPU, for features with the channels last: a thread per bin and channel, and for the
// gradient a thread per channel of a few rows, which goes through the regions of its image.
#include <cfloat>

#include "gpu_kernels.h"
#include "roi_pool_gpu.h"

namespace tfdetect {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 8;  // of the features, that a thread of the gradient kernel owns

template <typename T>
__global__ void RoiPoolKernel(RoiPoolShape shape, const T* features, const float* boxes,
                              const int32_t* box_indices, int64_t total, T* output,
                              int32_t* argmax) {
  const int64_t number = ThreadNumber(kThreads);
  if (number >= total) return;
  const int64_t channel = number % shape.channels, bin = number / shape.channels;
  const int pw = static_cast<int>(bin % shape.pooled_width);
  const int ph = static_cast<int>(bin / shape.pooled_width % shape.pooled_height);
  const int64_t r = bin / shape.pooled_width / shape.pooled_height;
  const int64_t image = box_indices[r];
  PoolWindow rows = {0, 0}, columns = {0, 0};
  if (image >= 0 && image < shape.images) {
    const PoolRegion region = MakePoolRegion(shape, boxes + 4 * r, image);
    rows = WindowOf(region.y, ph);
    columns = WindowOf(region.x, pw);
  }
  float largest = rows.end <= rows.first || columns.end <= columns.first ? 0.0f : -FLT_MAX;
  int32_t where = -1;
  const T* pixels = features + image * shape.height * shape.width * shape.channels + channel;
  for (int y = rows.first; y < rows.end; ++y) {
    for (int x = columns.first; x < columns.end; ++x) {
      const int32_t index = static_cast<int32_t>(y * shape.width + x);
      const float value = ToFloat(pixels[index * shape.channels]);
      if (value > largest) {
        largest = value;
        where = index;
      }
    }
  }
  FromFloat(largest, output + number);
  argmax[number] = where;
}

// Grid: x over blocks of rows of all images, y over runs of channels.
template <typename T>
__global__ void RoiPoolGradientKernel(RoiPoolShape shape, const T* grad, const int32_t* argmax,
                                      const int32_t* box_indices, int64_t regions, float* output) {
  const int64_t channels = shape.channels;
  const int64_t channel = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (channel >= channels) return;
  const int64_t blocks = (shape.height + kRows - 1) / kRows;
  const int64_t image = blockIdx.x / blocks;
  const int64_t first = blockIdx.x % blocks * kRows * shape.width;
  const int64_t rest = shape.height * shape.width - first;
  const int64_t count = rest < kRows * shape.width ? rest : kRows * shape.width;
  float* pixels = output + (image * shape.height * shape.width + first) * channels + channel;
  for (int64_t i = 0; i < count; ++i) pixels[i * channels] = 0.0f;
  const int64_t bins = int64_t{shape.pooled_height} * shape.pooled_width;
  for (int64_t r = 0; r < regions; ++r) {
    if (box_indices[r] != image) continue;
    for (int64_t bin = r * bins; bin < (r + 1) * bins; ++bin) {
      const int64_t index = argmax[bin * channels + channel] - first;
      if (index >= 0 && index < count)
        pixels[index * channels] += ToFloat(grad[bin * channels + channel]);
    }
  }
}

template <typename T>
void LaunchTyped(const RoiPoolShape& shape, const void* features, const float* boxes,
                 const int32_t* box_indices, int64_t total, void* output, int32_t* argmax,
                 GpuStream stream) {
  TFDETECT_LAUNCH((RoiPoolKernel<T>), Blocks(total, kThreads), dim3(kThreads), stream, shape,
                  static_cast<const T*>(features), boxes, box_indices, total,
                  static_cast<T*>(output), argmax);
}

template <typename T>
void LaunchTypedGradient(const RoiPoolShape& shape, const void* grad, const int32_t* argmax,
                         const int32_t* box_indices, int64_t regions, float* output,
                         GpuStream stream) {
  const int64_t blocks = shape.images * ((shape.height + kRows - 1) / kRows);
  const dim3 grid(static_cast<unsigned>(blocks),
                  static_cast<unsigned>((shape.channels + kThreads - 1) / kThreads));
  TFDETECT_LAUNCH((RoiPoolGradientKernel<T>), grid, dim3(kThreads), stream, shape,
                  static_cast<const T*>(grad), argmax, box_indices, regions, output);
}

#define TFDETECT_DISPATCH(function, type, ...)  \
  switch (type) {                               \
    case FloatType::kFloat:                     \
      function<float>(__VA_ARGS__);             \
      break;                                    \
    case FloatType::kHalf:                      \
      function<__half>(__VA_ARGS__);            \
      break;                                    \
    case FloatType::kBFloat16:                  \
      function<__nv_bfloat16>(__VA_ARGS__);     \
      break;                                    \
  }

}  // namespace

const char* LaunchRoiPool(const RoiPoolShape& shape, FloatType type, const void* features,
                          const float* boxes, const int32_t* box_indices, int64_t regions,
                          void* output, int32_t* argmax, GpuStream stream) {
  const int64_t total = regions * shape.pooled_height * shape.pooled_width * shape.channels;
  if (total == 0) return nullptr;
  TFDETECT_DISPATCH(LaunchTyped, type, shape, features, boxes, box_indices, total, output, argmax,
                    stream)
  return LaunchError();
}

const char* LaunchRoiPoolGradient(const RoiPoolShape& shape, FloatType type, const void* grad,
                                  const int32_t* argmax, const int32_t* box_indices,
                                  int64_t regions, float* output, GpuStream stream) {
  if (shape.images * shape.height * shape.width * shape.channels == 0) return nullptr;
  TFDETECT_DISPATCH(LaunchTypedGradient, type, shape, grad, argmax, box_indices, regions, output,
                    stream)
  return LaunchError();
}

}  // namespace tfdetect
