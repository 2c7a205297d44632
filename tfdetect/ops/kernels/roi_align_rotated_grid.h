// Where ROIAlign of rotated boxes samples, as Detectron2's ROIAlignRotated: a regular grid in the
// frame of the box, turned into that of the features. Its float32 steps are followed in their order,
// since a position decides which pixels are touched and a length how many samples there are.
#ifndef TFDETECT_ROI_ALIGN_ROTATED_GRID_H_
#define TFDETECT_ROI_ALIGN_ROTATED_GRID_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "host_device.h"
#include "roi_align_axis.h"

namespace tfdetect {

// Samples along the height (y) and width (x) of the box; all in pixels of the features.
struct RotatedGrid {
  float center_y, center_x, cos, sin;
  float start_y, start_x, bin_y, bin_x;  // of the first bin from the centre; of every bin
  int32_t samples_y, samples_x;          // in a bin; none: 0
  int32_t rows, columns;                 // of the features
};

TFDETECT_HOST_DEVICE float Within(float value, float least, float most) {
  return value < least ? least : value > most ? most : value;
}

// Of a box that is not finite, or of a negative length (an error in Detectron2), without samples.
TFDETECT_HOST_DEVICE RotatedGrid MakeRotatedGrid(const RoiAlignShape& shape, const float* box,
                                                 int64_t image) {
  RotatedGrid grid = {};
  int64_t rows = shape.height, columns = shape.width;
  if (shape.sizes != nullptr) {
    rows = shape.sizes[2 * image] < rows ? shape.sizes[2 * image] : rows;
    columns = shape.sizes[2 * image + 1] < columns ? shape.sizes[2 * image + 1] : columns;
  }
  grid.rows = static_cast<int32_t>(rows);
  grid.columns = static_cast<int32_t>(columns);
  // Of NaN and infinity the difference is NaN.
  bool usable = rows > 0 && columns > 0 && box[4] - box[4] == 0.0f;
  float scaled[4];
  for (int i = 0; i < 4; ++i) {
    scaled[i] = box[i] * shape.spatial_scale;
    usable = usable && scaled[i] - scaled[i] == 0.0f;
  }
  usable = usable && scaled[2] >= 0.0f && scaled[3] >= 0.0f;
  if (!usable) return grid;
  grid.center_x = Within(scaled[0] - 0.5f, -kFarthest, kFarthest);
  grid.center_y = Within(scaled[1] - 0.5f, -kFarthest, kFarthest);
  const float width = Within(scaled[2], 0.0f, 2.0f * kFarthest);
  const float height = Within(scaled[3], 0.0f, 2.0f * kFarthest);
  const float theta = static_cast<float>(box[4] * 3.14159265358979323846 / 180.0);
  grid.cos = static_cast<float>(cos(static_cast<double>(theta)));
  grid.sin = static_cast<float>(sin(static_cast<double>(theta)));
  grid.bin_y = height / static_cast<float>(shape.pooled_height);
  grid.bin_x = width / static_cast<float>(shape.pooled_width);
  const bool adaptive = shape.sampling_ratio <= 0;
  grid.samples_y = adaptive ? static_cast<int32_t>(ceilf(grid.bin_y)) : shape.sampling_ratio;
  grid.samples_x = adaptive ? static_cast<int32_t>(ceilf(grid.bin_x)) : shape.sampling_ratio;
  if (grid.samples_y == 0 || grid.samples_x == 0) grid.samples_y = grid.samples_x = 0;
  grid.start_y = -height / 2.0f;
  grid.start_x = -width / 2.0f;
  return grid;
}

// From the box's centre along its height, or width: sample i of a bin.
TFDETECT_HOST_DEVICE float SampleAlong(float start, float bin_length, int32_t bin, int32_t i,
                                       int32_t samples) {
  return start + static_cast<float>(bin) * bin_length +
         (static_cast<float>(i) + 0.5f) * bin_length / static_cast<float>(samples);
}

// The pixels of one axis that a sample is interpolated from, and their weights.
struct Neighbours {
  int32_t low, high;
  float low_weight, high_weight;
};

// False for a sample that is too far out to count.
TFDETECT_HOST_DEVICE bool FindNeighbours(float position, int32_t size, Neighbours* neighbours) {
  if (!(position >= -1.0f && position <= static_cast<float>(size))) return false;
  if (position < 0.0f) position = 0.0f;
  int32_t low = static_cast<int32_t>(position);
  if (low >= size - 1) {
    *neighbours = {size - 1, size - 1, 1.0f, 0.0f};
    return true;
  }
  const float fraction = position - static_cast<float>(low);
  *neighbours = {low, low + 1, 1.0f - fraction, fraction};
  return true;
}

// Limits [*first, *last] to where base + slope * t is in [low, high]; on the safe side.
TFDETECT_HOST_DEVICE void LimitLine(float base, float slope, float low, float high, float* first,
                                    float* last) {
  if (fabsf(slope) < 1e-6f) {
    if (base < low - 1.0f || base > high + 1.0f) *last = *first - 1.0f;
    return;
  }
  const float at_low = (low - base) / slope, at_high = (high - base) / slope;
  const float begin = at_low < at_high ? at_low : at_high;
  const float end = at_low < at_high ? at_high : at_low;
  if (begin > *first) *first = begin;
  if (end < *last) *last = end;
}

// Of the samples of a bin in one line along the width, `along_y` from the centre, those that may
// touch rows [row_begin, row_end) of the features: [*first, *end).
TFDETECT_HOST_DEVICE void SamplesOfLine(const RotatedGrid& grid, int32_t bin_x, float along_y,
                                        int32_t row_begin, int32_t row_end, int32_t* first,
                                        int32_t* end) {
  *first = 0;
  *end = grid.samples_x;
  const float begin = grid.start_x + static_cast<float>(bin_x) * grid.bin_x;
  float from = begin, to = begin + grid.bin_x;
  LimitLine(grid.center_y + along_y * grid.cos, -grid.sin, static_cast<float>(row_begin - 1),
            static_cast<float>(row_end), &from, &to);
  LimitLine(grid.center_x + along_y * grid.sin, grid.cos, -1.0f, static_cast<float>(grid.columns),
            &from, &to);
  if (to < from) {
    *end = 0;
    return;
  }
  const float step = grid.bin_x / static_cast<float>(grid.samples_x);
  if (step < 1e-3f) return;
  const float low = floorf((from - begin) / step) - 2.0f, high = ceilf((to - begin) / step) + 2.0f;
  if (low > 0.0f) *first = static_cast<int32_t>(low);
  if (high < static_cast<float>(grid.samples_x)) *end = static_cast<int32_t>(high);
}

// MakeRotatedGrid for the CPU's files: rounded step by step, where theirs fuse.
RotatedGrid GridOfBox(const RoiAlignShape& shape, const float* box, int64_t image);

// Entries of one box, by bin (a row of bins after another): pixels row * shape.width + column of
// rows [row_begin, row_end), with their weight in the mean of the bin's samples.
void SampleRotatedRoi(const RoiAlignShape& shape, const RotatedGrid& grid, int32_t row_begin,
                      int32_t row_end, std::vector<AxisEntry>* entries);

}  // namespace tfdetect

#endif  // TFDETECT_ROI_ALIGN_ROTATED_GRID_H_
