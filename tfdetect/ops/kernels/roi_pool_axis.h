// Which rows (or columns) each bin of ROIPool covers along one axis.
//
// ROIPool (Fast R-CNN, arXiv:1504.08083, section 2.1) rounds a box to whole pixels of the features,
// both ends inclusive, and divides it into bins whose ends are rounded outwards, so that neighbours
// may share pixels. The float32 steps are those of torchvision's roi_pool, in their order.
#ifndef TFDETECT_ROI_POOL_AXIS_H_
#define TFDETECT_ROI_POOL_AXIS_H_

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace tfdetect {

struct RoiPoolShape {
  int64_t images, height, width, channels;
  int32_t pooled_height, pooled_width;
  float spatial_scale;   // features' pixels per pixel of the input image
  const int32_t* sizes;  // [images, 2], rows and columns at the top left that are each image's own
                         // features, which end there; null: all are
};

struct PoolAxis {
  float first, bin_length;
  int32_t size;  // rows or columns of the features; 0 if the box is not finite
};

// Rows or columns [first, end).
struct PoolWindow {
  int32_t first, end;
};

// Of a number in [-2^20, 2^20] with any box: far beyond any features, and exact in float32.
TFDETECT_HOST_DEVICE float RoundedPixel(float position) {
  return roundf(fminf(fmaxf(position, -1048576.0f), 1048576.0f));
}

TFDETECT_HOST_DEVICE PoolAxis MakePoolAxis(float low, float high, int32_t bins, int32_t size) {
  const float first = RoundedPixel(low);
  const float length = fmaxf(RoundedPixel(high) - first + 1.0f, 1.0f);
  return {first, length / static_cast<float>(bins), size};
}

TFDETECT_HOST_DEVICE PoolWindow WindowOf(const PoolAxis& axis, int32_t bin) {
  const float size = static_cast<float>(axis.size);
  const float first = floorf(static_cast<float>(bin) * axis.bin_length) + axis.first;
  const float end = ceilf(static_cast<float>(bin + 1) * axis.bin_length) + axis.first;
  return {static_cast<int32_t>(fminf(fmaxf(first, 0.0f), size)),
          static_cast<int32_t>(fminf(fmaxf(end, 0.0f), size))};
}

struct PoolRegion {
  PoolAxis y, x;
};

// Of one XYXY box in pixels of the input image.
TFDETECT_HOST_DEVICE PoolRegion MakePoolRegion(const RoiPoolShape& shape, const float* box,
                                               int64_t image) {
  int32_t rows = static_cast<int32_t>(shape.height), columns = static_cast<int32_t>(shape.width);
  if (shape.sizes != nullptr) {
    const int32_t own_rows = shape.sizes[2 * image], own_columns = shape.sizes[2 * image + 1];
    rows = own_rows < 0 ? 0 : own_rows < rows ? own_rows : rows;
    columns = own_columns < 0 ? 0 : own_columns < columns ? own_columns : columns;
  }
  float corners[4];
  bool finite = true;
  for (int i = 0; i < 4; ++i) {
    corners[i] = box[i] * shape.spatial_scale;
    // What is not a number is neither above nor below.
    finite = finite && corners[i] > -INFINITY && corners[i] < INFINITY;
  }
  return {MakePoolAxis(corners[1], corners[3], shape.pooled_height, finite ? rows : 0),
          MakePoolAxis(corners[0], corners[2], shape.pooled_width, finite ? columns : 0)};
}

}  // namespace tfdetect

#endif  // TFDETECT_ROI_POOL_AXIS_H_
