// Where a point lies in a map, and how much each location around it counts.
//
// The float32 steps are those of PyTorch's grid_sample with align_corners=False, in their order.
#ifndef TFDETECT_POINT_SAMPLE_CORNERS_H_
#define TFDETECT_POINT_SAMPLE_CORNERS_H_

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace tfdetect {

// Features [maps, height, width, channels], rows of `points` points (x, y) in [0, 1] of a map. A
// map ends after sizes[2 * i] rows and sizes[2 * i + 1] columns, or nowhere before its end where
// `sizes` is null.
struct PointSampleShape {
  int64_t maps, height, width, channels, points;
  const int32_t* sizes;
};

// Up to four locations of the map, in PyTorch's order, and their weights.
struct PointCorners {
  int count;
  int32_t y[4], x[4];
  float weight[4];
};

// The lower neighbour along an axis of `size` locations and the fraction beyond it; false where
// neither neighbour is in the map, or for a NaN.
TFDETECT_HOST_DEVICE bool SamplePointAxis(float point, int32_t size, int32_t* lower,
                                          float* fraction) {
  const float position =
      ((2.0f * point - 1.0f) + 1.0f) * (static_cast<float>(size) / 2.0f) - 0.5f;
  if (!(position > -1.0f && position < static_cast<float>(size))) return false;
  const float below = floorf(position);
  *lower = static_cast<int32_t>(below);
  *fraction = position - below;
  return true;
}

TFDETECT_HOST_DEVICE PointCorners FindCorners(const PointSampleShape& shape, const float* point,
                                              int64_t map) {
  PointCorners corners;
  corners.count = 0;
  int32_t height = static_cast<int32_t>(shape.height), width = static_cast<int32_t>(shape.width);
  if (shape.sizes != nullptr) {
    if (shape.sizes[2 * map] < height) height = shape.sizes[2 * map];
    if (shape.sizes[2 * map + 1] < width) width = shape.sizes[2 * map + 1];
  }
  int32_t x, y;
  float right, down;
  if (!SamplePointAxis(point[0], width, &x, &right) ||
      !SamplePointAxis(point[1], height, &y, &down))
    return corners;
  for (int dy = 0; dy < 2; ++dy) {
    for (int dx = 0; dx < 2; ++dx) {
      if (x + dx < 0 || x + dx >= width || y + dy < 0 || y + dy >= height) continue;
      corners.y[corners.count] = y + dy;
      corners.x[corners.count] = x + dx;
      corners.weight[corners.count++] = (dx ? right : 1.0f - right) * (dy ? down : 1.0f - down);
    }
  }
  return corners;
}

}  // namespace tfdetect

#endif  // TFDETECT_POINT_SAMPLE_CORNERS_H_
