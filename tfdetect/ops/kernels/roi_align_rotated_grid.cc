#include "roi_align_rotated_grid.h"

#include <cmath>

namespace tfdetect {
namespace {

// Pixels [low, high) of one axis, within [least, most), that samples up to `reach` from `middle` are
// interpolated from; on the safe side.
void Surround(float middle, float reach, int32_t least, int32_t most, int32_t* low,
              int32_t* high) {
  const float first = static_cast<float>(least), last = static_cast<float>(most);
  *low = static_cast<int32_t>(Within(std::floor(middle - reach) - 1.0f, first, last));
  *high = static_cast<int32_t>(Within(std::floor(middle + reach) + 3.0f, first, last));
}

}  // namespace

RotatedGrid GridOfBox(const RoiAlignShape& shape, const float* box, int64_t image) {
  return MakeRotatedGrid(shape, box, image);
}

void SampleRotatedRoi(const RoiAlignShape& shape, const RotatedGrid& grid, int32_t row_begin,
                      int32_t row_end, std::vector<AxisEntry>* entries) {
  entries->clear();
  const float count = static_cast<float>(grid.samples_y) * static_cast<float>(grid.samples_x);
  const float half_y = 0.5f * grid.bin_y, half_x = 0.5f * grid.bin_x;
  const float reach_y = std::abs(grid.cos) * half_y + std::abs(grid.sin) * half_x;
  const float reach_x = std::abs(grid.sin) * half_y + std::abs(grid.cos) * half_x;
  // Of the pixels around the bin: neighbouring samples share most of theirs.
  std::vector<float> weights;
  const int32_t bins = grid.samples_y == 0 ? 0 : shape.pooled_height * shape.pooled_width;
  for (int32_t bin = 0; bin < bins; ++bin) {
    const int32_t bin_y = bin / shape.pooled_width, bin_x = bin % shape.pooled_width;
    const float middle_y = grid.start_y + static_cast<float>(bin_y) * grid.bin_y + half_y;
    const float middle_x = grid.start_x + static_cast<float>(bin_x) * grid.bin_x + half_x;
    int32_t top, bottom, left, right;
    Surround(middle_y * grid.cos - middle_x * grid.sin + grid.center_y, reach_y, row_begin,
             row_end, &top, &bottom);
    Surround(middle_y * grid.sin + middle_x * grid.cos + grid.center_x, reach_x, 0, grid.columns,
             &left, &right);
    if (top >= bottom || left >= right) continue;
    const int32_t across = right - left;
    weights.assign(static_cast<size_t>(bottom - top) * across, 0.0f);
    for (int32_t iy = 0; iy < grid.samples_y; ++iy) {
      const float along_y = SampleAlong(grid.start_y, grid.bin_y, bin_y, iy, grid.samples_y);
      int32_t first, end;
      SamplesOfLine(grid, bin_x, along_y, row_begin, row_end, &first, &end);
      for (int32_t ix = first; ix < end; ++ix) {
        const float along_x = SampleAlong(grid.start_x, grid.bin_x, bin_x, ix, grid.samples_x);
        const float y = along_y * grid.cos - along_x * grid.sin + grid.center_y;
        const float x = along_y * grid.sin + along_x * grid.cos + grid.center_x;
        Neighbours rows, columns;
        if (!FindNeighbours(y, grid.rows, &rows) || !FindNeighbours(x, grid.columns, &columns))
          continue;
        if (columns.low < left || columns.high >= right) continue;  // cannot be
        const auto add = [&](int32_t row, float weight) {
          if (row < top || row >= bottom) return;
          float* line = weights.data() + static_cast<size_t>(row - top) * across;
          line[columns.low - left] += weight * columns.low_weight;
          line[columns.high - left] += weight * columns.high_weight;
        };
        add(rows.low, rows.low_weight);
        add(rows.high, rows.high_weight);
      }
    }
    const float* weight = weights.data();
    for (int32_t row = top; row < bottom; ++row) {
      for (int32_t column = left; column < right; ++column, ++weight) {
        if (*weight == 0.0f) continue;
        const int32_t pixel = row * static_cast<int32_t>(shape.width) + column;
        entries->push_back({pixel, bin, *weight / count});
      }
    }
  }
}

}  // namespace tfdetect
