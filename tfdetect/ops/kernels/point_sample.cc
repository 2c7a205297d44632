#include "point_sample.h"

#include <algorithm>
#include <cmath>

#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

constexpr int64_t kChannelsPerTask = 32;

// Where a point lies: up to four locations of the map, in PyTorch's order, and their weights.
struct Corners {
  int count = 0;
  int64_t location[4];
  float weight[4];
};

// The lower neighbour along an axis of `size` locations, by the float32 steps of grid_sample, and
// the fraction beyond it; false where neither neighbour is in the map, or for a NaN.
bool SampleAxis(float point, int32_t size, int32_t* lower, float* fraction) {
  const float position =
      ((2.0f * point - 1.0f) + 1.0f) * (static_cast<float>(size) / 2.0f) - 0.5f;
  if (!(position > -1.0f && position < static_cast<float>(size))) return false;
  const float floor = std::floor(position);
  *lower = static_cast<int32_t>(floor);
  *fraction = position - floor;
  return true;
}

Corners FindCorners(const PointSampleShape& shape, const float* point, int64_t map) {
  Corners corners;
  int32_t height = static_cast<int32_t>(shape.height), width = static_cast<int32_t>(shape.width);
  if (shape.sizes != nullptr) {
    height = std::min(height, shape.sizes[2 * map]);
    width = std::min(width, shape.sizes[2 * map + 1]);
  }
  int32_t x, y;
  float right, down;
  if (!SampleAxis(point[0], width, &x, &right) || !SampleAxis(point[1], height, &y, &down))
    return corners;
  for (int dy = 0; dy < 2; ++dy) {
    for (int dx = 0; dx < 2; ++dx) {
      if (x + dx < 0 || x + dx >= width || y + dy < 0 || y + dy >= height) continue;
      corners.location[corners.count] = (map * shape.height + y + dy) * shape.width + x + dx;
      corners.weight[corners.count++] =
          (dx ? right : 1.0f - right) * (dy ? down : 1.0f - down);
    }
  }
  return corners;
}

// to = weight * from, or added to it.
template <typename T>
TFDETECT_INLINE void AddLoop(const T* from, float weight, bool add, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    Float8 value, sum = {};
    LoadFloats(from + i, value);
    if (add) Load(to + i, sum);
    sum += weight * value;
    Store(sum, to + i);
  }
  for (; i < n; ++i) to[i] = (add ? to[i] : 0.0f) + weight * ToFloat(from[i]);
}
template <typename T>
const auto Add = BestVersion<AddLoop<T>>();

template <typename T>
TFDETECT_INLINE void ConvertLoop(const float* from, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) FromFloat(from[i], to + i);
}
template <typename T>
const auto Convert = BestVersion<ConvertLoop<T>>();

float* Sums(float* output, std::vector<float>*, int64_t) { return output; }
template <typename T>
float* Sums(T*, std::vector<float>* sums, int64_t n) {
  sums->resize(n);
  return sums->data();
}

void Finish(const float*, int64_t, float*) {}
template <typename T>
void Finish(const float* sums, int64_t n, T* output) {
  Convert<T>(sums, n, output);
}

}  // namespace

template <typename T>
void PointSample(const PointSampleShape& shape, const T* features, const float* points,
                 const int32_t* map_indices, int64_t begin, int64_t end, T* output) {
  const int64_t channels = shape.channels;
  std::vector<float> narrow;
  for (int64_t p = begin; p < end; ++p) {
    T* result = output + p * channels;
    float* sums = Sums(result, &narrow, channels);
    const Corners corners = FindCorners(shape, points + 2 * p, map_indices[p / shape.points]);
    if (corners.count == 0) std::fill_n(sums, channels, 0.0f);
    for (int i = 0; i < corners.count; ++i)
      Add<T>(features + corners.location[i] * channels, corners.weight[i], i > 0, channels, sums);
    Finish(sums, channels, result);
  }
}

PointSampleGradient::PointSampleGradient(const PointSampleShape& shape, const float* points,
                                         const int32_t* map_indices, int64_t rows)
    : shape_(shape),
      points_(points),
      slices_((shape.channels + kChannelsPerTask - 1) / kChannelsPerTask),
      rows_(shape.maps) {
  for (int64_t row = 0; row < rows; ++row) rows_[map_indices[row]].push_back(row);
}

template <typename T>
void PointSampleGradient::Run(int64_t task, const T* grad, T* output) const {
  const int64_t map = task / slices_, first = task % slices_ * kChannelsPerTask;
  const int64_t count = std::min(kChannelsPerTask, shape_.channels - first);
  const int64_t locations = shape_.height * shape_.width, origin = map * locations;
  std::vector<float> sums(locations * count, 0.0f);
  for (const int64_t row : rows_[map]) {
    for (int64_t p = row * shape_.points; p < (row + 1) * shape_.points; ++p) {
      const Corners corners = FindCorners(shape_, points_ + 2 * p, map);
      for (int i = 0; i < corners.count; ++i)
        Add<T>(grad + p * shape_.channels + first, corners.weight[i], true, count,
               sums.data() + (corners.location[i] - origin) * count);
    }
  }
  for (int64_t i = 0; i < locations; ++i)
    Convert<T>(sums.data() + i * count, count, output + (origin + i) * shape_.channels + first);
}

#define TFDETECT_INSTANTIATE(T)                                                                 \
  template void PointSample<T>(const PointSampleShape&, const T*, const float*, const int32_t*, \
                               int64_t, int64_t, T*);                                           \
  template void PointSampleGradient::Run<T>(int64_t, const T*, T*) const;
TFDETECT_INSTANTIATE(float)
TFDETECT_INSTANTIATE(Half)
TFDETECT_INSTANTIATE(BFloat16)
#undef TFDETECT_INSTANTIATE

}  // namespace tfdetect
