#include "point_sample.h"

#include <algorithm>

#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

constexpr int64_t kChannelsPerTask = 32;

// Which location of a map a corner is.
int64_t LocationOf(const PointSampleShape& shape, const PointCorners& corners, int i) {
  return corners.y[i] * shape.width + corners.x[i];
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
    const int64_t map = map_indices[p / shape.points];
    const T* locations = features + map * shape.height * shape.width * channels;
    const PointCorners corners = FindCorners(shape, points + 2 * p, map);
    if (corners.count == 0) std::fill_n(sums, channels, 0.0f);
    for (int i = 0; i < corners.count; ++i)
      Add<T>(locations + LocationOf(shape, corners, i) * channels, corners.weight[i], i > 0,
             channels, sums);
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
  const int64_t locations = shape_.height * shape_.width;
  std::vector<float> sums(locations * count, 0.0f);
  for (const int64_t row : rows_[map]) {
    for (int64_t p = row * shape_.points; p < (row + 1) * shape_.points; ++p) {
      const PointCorners corners = FindCorners(shape_, points_ + 2 * p, map);
      for (int i = 0; i < corners.count; ++i)
        Add<T>(grad + p * shape_.channels + first, corners.weight[i], true, count,
               sums.data() + LocationOf(shape_, corners, i) * count);
    }
  }
  for (int64_t i = 0; i < locations; ++i)
    Convert<T>(sums.data() + i * count, count,
               output + (map * locations + i) * shape_.channels + first);
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
