// Bilinear samples of feature maps at points, with zeros around the map, on the CPU; see
// point_sample_corners.h for the meaning.
#ifndef TFDETECT_POINT_SAMPLE_H_
#define TFDETECT_POINT_SAMPLE_H_

#include <cstdint>
#include <vector>

#include "half.h"
#include "point_sample_corners.h"

namespace tfdetect {

// Points [begin, end) of all rows: output [rows, points, channels]; sums are float32 whatever T
// (float, Half or BFloat16) is. A point with a NaN is beyond the map.
template <typename T>
void PointSample(const PointSampleShape& shape, const T* features, const float* points,
                 const int32_t* map_indices, int64_t begin, int64_t end, T* output);

// The gradient for the features. Each task owns a few channels of one map and goes through the
// points in their order, so the sums do not depend on the number of threads.
class PointSampleGradient {
 public:
  PointSampleGradient(const PointSampleShape& shape, const float* points,
                      const int32_t* map_indices, int64_t rows);
  int64_t tasks() const { return shape_.maps * slices_; }
  // grad [rows, points, channels], output [maps, height, width, channels], all of it written.
  template <typename T>
  void Run(int64_t task, const T* grad, T* output) const;

 private:
  PointSampleShape shape_;
  const float* points_;
  int64_t slices_;
  std::vector<std::vector<int64_t>> rows_;  // per map
};

}  // namespace tfdetect

#endif  // TFDETECT_POINT_SAMPLE_H_
