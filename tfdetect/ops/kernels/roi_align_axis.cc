#include "roi_align_axis.h"

#include <algorithm>
#include <cmath>

namespace tfdetect {
namespace {

// Adds weight to an index of the bin that is being filled. Samples go one way, so that an index
// which is there already is among the last few.
void Accumulate(int32_t index, int32_t bin, float weight, size_t bin_begin,
                std::vector<AxisEntry>* entries) {
  if (weight == 0.0f) return;
  const size_t oldest = std::max(bin_begin, entries->size() - std::min<size_t>(3, entries->size()));
  for (size_t i = entries->size(); i > oldest; --i) {
    AxisEntry& entry = (*entries)[i - 1];
    if (entry.index == index) {
      entry.weight += weight;
      return;
    }
  }
  entries->push_back({index, bin, weight});
}

void SampleAxis(float start, float length, int32_t bins, int64_t size, int32_t sampling_ratio,
                std::vector<AxisEntry>* entries) {
  entries->clear();
  if (size == 0) return;
  const bool adaptive = sampling_ratio <= 0;
  const float bin_length = length / static_cast<float>(bins);
  const float samples = adaptive ? std::ceil(bin_length) : static_cast<float>(sampling_ratio);
  if (!(samples > 0.0f)) return;  // an empty or inverted box has an empty grid
  const float last = static_cast<float>(size);
  for (int32_t bin = 0; bin < bins; ++bin) {
    const float bin_start = start + static_cast<float>(bin) * bin_length;
    // Only samples in [-1, size] count, and a box may be far larger than the features: step over
    // the rest. Adaptive samples are at least half a pixel apart unless there is one.
    float first = 0.0f, end = samples;
    if (adaptive && samples > 1.0f) {
      const float step = bin_length / samples;
      first = std::max(first, std::floor((-1.0f - bin_start) / step) - 1.0f);
      end = std::min(end, std::ceil((last - bin_start) / step) + 1.0f);
    }
    const size_t bin_begin = entries->size();
    for (float i = first; i < end; i += 1.0f) {
      float position = bin_start + (i + 0.5f) * bin_length / samples;
      if (!(position >= -1.0f && position <= last)) continue;
      position = std::max(position, 0.0f);
      int32_t low = static_cast<int32_t>(position);
      if (low >= size - 1) {
        Accumulate(static_cast<int32_t>(size - 1), bin, 1.0f, bin_begin, entries);
        continue;
      }
      const float fraction = position - static_cast<float>(low);
      Accumulate(low, bin, 1.0f - fraction, bin_begin, entries);
      Accumulate(low + 1, bin, fraction, bin_begin, entries);
    }
  }
  for (AxisEntry& entry : *entries) entry.weight /= samples;
}

}  // namespace

void SampleRoi(const RoiAlignShape& shape, const float* box, int32_t image, RoiAxes* axes) {
  axes->rows.clear();
  axes->columns.clear();
  int64_t rows = shape.height, columns = shape.width;
  if (shape.sizes != nullptr) {
    rows = std::clamp<int64_t>(shape.sizes[2 * image], 0, rows);
    columns = std::clamp<int64_t>(shape.sizes[2 * image + 1], 0, columns);
  }
  float corners[4];
  for (int i = 0; i < 4; ++i) {
    const float corner = box[i] * shape.spatial_scale;
    if (!std::isfinite(corner)) return;
    corners[i] = std::clamp(corner - (shape.aligned ? 0.5f : 0.0f), -kFarthest, kFarthest);
  }
  float width = corners[2] - corners[0], height = corners[3] - corners[1];
  if (!shape.aligned) {
    width = std::max(width, 1.0f);
    height = std::max(height, 1.0f);
  }
  SampleAxis(corners[1], height, shape.pooled_height, rows, shape.sampling_ratio, &axes->rows);
  SampleAxis(corners[0], width, shape.pooled_width, columns, shape.sampling_ratio,
             &axes->columns);
  std::sort(axes->rows.begin(), axes->rows.end(), [](const AxisEntry& a, const AxisEntry& b) {
    return a.index != b.index ? a.index < b.index : a.bin < b.bin;
  });
}

}  // namespace tfdetect
