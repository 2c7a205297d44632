#include "roi_pool.h"

#include <algorithm>
#include <cfloat>
#include <vector>

namespace tfdetect {
namespace {

constexpr int64_t kChannelsPerTask = 32;

int64_t ChannelBlocks(const RoiPoolShape& shape) {
  return (shape.channels + kChannelsPerTask - 1) / kChannelsPerTask;
}

}  // namespace

template <typename T>
void RoiPool(const RoiPoolShape& shape, const T* features, const float* boxes,
             const int32_t* box_indices, int64_t begin, int64_t end, T* output, int32_t* argmax) {
  const int64_t channels = shape.channels;
  std::vector<float> best(channels);
  for (int64_t r = begin; r < end; ++r) {
    const PoolRegion region = MakePoolRegion(shape, boxes + 4 * r, box_indices[r]);
    const T* image = features + box_indices[r] * shape.height * shape.width * channels;
    for (int32_t ph = 0; ph < shape.pooled_height; ++ph) {
      const PoolWindow rows = WindowOf(region.y, ph);
      for (int32_t pw = 0; pw < shape.pooled_width; ++pw) {
        const PoolWindow columns = WindowOf(region.x, pw);
        const int64_t bin = (r * shape.pooled_height + ph) * shape.pooled_width + pw;
        int32_t* where = argmax + bin * channels;
        const bool empty = rows.end <= rows.first || columns.end <= columns.first;
        std::fill(best.begin(), best.end(), empty ? 0.0f : -FLT_MAX);
        std::fill(where, where + channels, -1);
        float* largest = best.data();
        for (int32_t y = rows.first; y < rows.end; ++y) {
          for (int32_t x = columns.first; x < columns.end; ++x) {
            const int32_t index = static_cast<int32_t>(y * shape.width + x);
            const T* pixel = image + index * channels;
            for (int64_t c = 0; c < channels; ++c) {
              const float value = ToFloat(pixel[c]);
              const bool larger = value > largest[c];
              largest[c] = larger ? value : largest[c];
              where[c] = larger ? index : where[c];
            }
          }
        }
        for (int64_t c = 0; c < channels; ++c) FromFloat(largest[c], output + bin * channels + c);
      }
    }
  }
}

int64_t RoiPoolGradientTasks(const RoiPoolShape& shape) {
  return shape.images * ChannelBlocks(shape);
}

template <typename T>
void RoiPoolGradient(const RoiPoolShape& shape, const T* grad, const int32_t* argmax,
                     const int32_t* box_indices, int64_t regions, int64_t task, float* output) {
  const int64_t channels = shape.channels;
  const int64_t image = task / ChannelBlocks(shape);
  const int64_t first = task % ChannelBlocks(shape) * kChannelsPerTask;
  const int64_t end = std::min(first + kChannelsPerTask, channels);
  const int64_t bins = int64_t{shape.pooled_height} * shape.pooled_width;
  float* result = output + image * shape.height * shape.width * channels;
  for (int64_t r = 0; r < regions; ++r) {
    if (box_indices[r] != image) continue;
    for (int64_t bin = r * bins; bin < (r + 1) * bins; ++bin) {
      for (int64_t c = first; c < end; ++c) {
        const int64_t index = argmax[bin * channels + c];
        if (index >= 0) result[index * channels + c] += ToFloat(grad[bin * channels + c]);
      }
    }
  }
}

#define TFDETECT_INSTANTIATE(T)                                                                  \
  template void RoiPool<T>(const RoiPoolShape&, const T*, const float*, const int32_t*, int64_t, \
                           int64_t, T*, int32_t*);                                               \
  template void RoiPoolGradient<T>(const RoiPoolShape&, const T*, const int32_t*,                \
                                   const int32_t*, int64_t, int64_t, float*);
TFDETECT_INSTANTIATE(float)
TFDETECT_INSTANTIATE(Half)
TFDETECT_INSTANTIATE(BFloat16)
#undef TFDETECT_INSTANTIATE

}  // namespace tfdetect
