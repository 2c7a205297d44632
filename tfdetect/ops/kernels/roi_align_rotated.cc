#include "roi_align_rotated.h"

#include <algorithm>

#include "pooled_sums.h"

namespace tfdetect {
namespace {

constexpr int64_t kRowsPerTask = 8;

}  // namespace

template <typename T>
void RoiAlignRotated(const RoiAlignShape& shape, const T* features, const float* boxes,
                     const int32_t* box_indices, int64_t begin, int64_t end, T* output) {
  const int64_t image_size = shape.height * shape.width * shape.channels;
  const int64_t region_size = int64_t{shape.pooled_height} * shape.pooled_width * shape.channels;
  typename SumsOf<T>::Type sums(region_size);
  std::vector<AxisEntry> entries;
  for (int64_t r = begin; r < end; ++r) {
    T* region = output + r * region_size;
    float* result = sums.Begin(region, region_size);
    const RotatedGrid grid = GridOfBox(shape, boxes + 5 * r, box_indices[r]);
    SampleRotatedRoi(shape, grid, 0, grid.rows, &entries);
    SumEntries<T>(features + box_indices[r] * image_size, entries.data(),
                  static_cast<int64_t>(entries.size()), shape.channels, result);
    sums.Finish(region, region_size);
  }
}

RoiAlignRotatedGradient::RoiAlignRotatedGradient(const RoiAlignShape& shape, const float* boxes,
                                                 const int32_t* box_indices, int64_t regions)
    : shape_(shape),
      blocks_((shape.height + kRowsPerTask - 1) / kRowsPerTask),
      regions_(shape.images * blocks_) {
  grids_.reserve(regions);
  for (int64_t r = 0; r < regions; ++r) {
    const RotatedGrid grid = GridOfBox(shape, boxes + 5 * r, box_indices[r]);
    grids_.push_back(grid);
    if (grid.samples_y == 0) continue;
    const float reach =
        std::abs(grid.start_y * grid.cos) + std::abs(grid.start_x * grid.sin) + 2.0f;
    const float last_row = static_cast<float>(grid.rows - 1);
    const auto block = [&](float row) {
      return static_cast<int64_t>(std::clamp(row, 0.0f, last_row)) / kRowsPerTask;
    };
    for (int64_t b = block(grid.center_y - reach); b <= block(grid.center_y + reach); ++b)
      regions_[box_indices[r] * blocks_ + b].push_back(r);
  }
}

template <typename T>
void RoiAlignRotatedGradient::Run(int64_t task, const T* grad, T* output) const {
  const int64_t channels = shape_.channels;
  const int64_t row_size = shape_.width * channels;
  const int64_t region_size = int64_t{shape_.pooled_height} * shape_.pooled_width * channels;
  const int64_t image = task / blocks_;
  const int64_t first_row = task % blocks_ * kRowsPerTask;
  const int64_t rows = std::min(kRowsPerTask, shape_.height - first_row);
  T* block = output + (image * shape_.height + first_row) * row_size;
  typename SumsOf<T>::Type sums(rows * row_size);
  float* result = sums.Begin(block, rows * row_size);
  std::vector<AxisEntry> entries;
  for (const int64_t r : regions_[task]) {
    const int32_t end = std::min(static_cast<int32_t>(first_row + rows), grids_[r].rows);
    SampleRotatedRoi(shape_, grids_[r], static_cast<int32_t>(first_row), end, &entries);
    for (const AxisEntry& entry : entries)
      AddScaled<T>(entry.weight, grad + r * region_size + entry.bin * channels, channels,
                   result + (entry.index - first_row * shape_.width) * channels);
  }
  sums.Finish(block, rows * row_size);
}

#define TFDETECT_INSTANTIATE(T)                                                                 \
  template void RoiAlignRotated<T>(const RoiAlignShape&, const T*, const float*,               \
                                   const int32_t*, int64_t, int64_t, T*);                      \
  template void RoiAlignRotatedGradient::Run<T>(int64_t, const T*, T*) const;
TFDETECT_INSTANTIATE(float)
TFDETECT_INSTANTIATE(Half)
TFDETECT_INSTANTIATE(BFloat16)
#undef TFDETECT_INSTANTIATE

}  // namespace tfdetect
