#include "roi_align.h"

#include <algorithm>

#include "pooled_sums.h"

namespace tfdetect {
namespace {

constexpr int64_t kRowsPerTask = 8;

}  // namespace

template <typename T>
void RoiAlign(const RoiAlignShape& shape, const T* features, const float* boxes,
              const int32_t* box_indices, int64_t begin, int64_t end, T* output) {
  const int64_t row_size = shape.width * shape.channels;
  const int64_t bins_size = shape.pooled_width * shape.channels;
  const int64_t region_size = shape.pooled_height * bins_size;
  typename SumsOf<T>::Type sums(region_size);
  std::vector<float> row_sums(bins_size);
  RoiAxes axes;
  for (int64_t r = begin; r < end; ++r) {
    T* region = output + r * region_size;
    float* result = sums.Begin(region, region_size);
    SampleRoi(shape, boxes + 4 * r, box_indices[r], &axes);
    const T* image = features + box_indices[r] * shape.height * row_size;
    // Bins that no column reaches stay zero for every row.
    std::fill(row_sums.begin(), row_sums.end(), 0.0f);
    const int64_t num_rows = axes.columns.empty() ? 0 : static_cast<int64_t>(axes.rows.size());
    for (int64_t i = 0; i < num_rows;) {
      const int32_t y = axes.rows[i].index;
      SumEntries<T>(image + y * row_size, axes.columns.data(), axes.columns.size(), shape.channels,
                row_sums.data());
      for (; i < num_rows && axes.rows[i].index == y; ++i)
        AddScaled<float>(axes.rows[i].weight, row_sums.data(), bins_size,
                         result + axes.rows[i].bin * bins_size);
    }
    sums.Finish(region, region_size);
  }
}

RoiAlignGradient::RoiAlignGradient(const RoiAlignShape& shape, const float* boxes,
                                   const int32_t* box_indices, int64_t regions)
    : shape_(shape),
      boxes_(boxes),
      box_indices_(box_indices),
      blocks_((shape.height + kRowsPerTask - 1) / kRowsPerTask),
      axes_(regions),
      regions_(shape.images * blocks_) {}

void RoiAlignGradient::Sample(int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    SampleRoi(shape_, boxes_ + 4 * r, box_indices_[r], &axes_[r]);
    std::sort(axes_[r].columns.begin(), axes_[r].columns.end(),
              [](const AxisEntry& a, const AxisEntry& b) {
                return a.index != b.index ? a.index < b.index : a.bin < b.bin;
              });
  }
}

void RoiAlignGradient::Distribute() {
  for (int64_t r = 0; r < static_cast<int64_t>(axes_.size()); ++r) {
    const RoiAxes& axes = axes_[r];
    if (axes.rows.empty() || axes.columns.empty()) continue;
    const int64_t first = axes.rows.front().index / kRowsPerTask;
    const int64_t last = axes.rows.back().index / kRowsPerTask;
    for (int64_t block = first; block <= last; ++block)
      regions_[box_indices_[r] * blocks_ + block].push_back(r);
  }
}

template <typename T>
void RoiAlignGradient::Run(int64_t task, const T* grad, T* output) const {
  const int64_t channels = shape_.channels;
  const int64_t row_size = shape_.width * channels;
  const int64_t bins_size = shape_.pooled_width * channels;
  const int64_t image = task / blocks_;
  const int64_t first_row = task % blocks_ * kRowsPerTask;
  const int64_t rows = std::min(kRowsPerTask, shape_.height - first_row);
  T* block = output + (image * shape_.height + first_row) * row_size;
  typename SumsOf<T>::Type sums(rows * row_size);
  float* result = sums.Begin(block, rows * row_size);
  std::vector<float> row_grad(bins_size);
  for (const int64_t r : regions_[task]) {
    const RoiAxes& axes = axes_[r];
    const T* region = grad + r * shape_.pooled_height * bins_size;
    auto entry = std::lower_bound(
        axes.rows.begin(), axes.rows.end(), first_row,
        [](const AxisEntry& e, int64_t row) { return e.index < row; });
    while (entry != axes.rows.end() && entry->index < first_row + rows) {
      const int32_t y = entry->index;
      std::fill(row_grad.begin(), row_grad.end(), 0.0f);
      for (; entry != axes.rows.end() && entry->index == y; ++entry)
        AddScaled<T>(entry->weight, region + entry->bin * bins_size, bins_size, row_grad.data());
      float* row = result + (y - first_row) * row_size;
      for (const AxisEntry& column : axes.columns)
        AddScaled<float>(column.weight, row_grad.data() + column.bin * channels, channels,
                         row + column.index * channels);
    }
  }
  sums.Finish(block, rows * row_size);
}

#define TFDETECT_INSTANTIATE(T)                                                              \
  template void RoiAlign<T>(const RoiAlignShape&, const T*, const float*, const int32_t*,   \
                            int64_t, int64_t, T*);                                           \
  template void RoiAlignGradient::Run<T>(int64_t, const T*, T*) const;
TFDETECT_INSTANTIATE(float)
TFDETECT_INSTANTIATE(Half)
TFDETECT_INSTANTIATE(BFloat16)
#undef TFDETECT_INSTANTIATE

}  // namespace tfdetect
