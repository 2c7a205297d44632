#include "roi_align_rotated_grid.h"

namespace tfdetect {

RotatedGrid GridOfBox(const RoiAlignShape& shape, const float* box, int64_t image) {
  return MakeRotatedGrid(shape, box, image);
}

void SampleRotatedRoi(const RoiAlignShape& shape, const RotatedGrid& grid, int32_t row_begin,
                      int32_t row_end, std::vector<AxisEntry>* entries) {
  entries->clear();
  const float count = static_cast<float>(grid.samples_y) * static_cast<float>(grid.samples_x);
  const int32_t width = static_cast<int32_t>(shape.width);
  for (int32_t bin = 0; bin < shape.pooled_height * shape.pooled_width; ++bin) {
    const int32_t bin_y = bin / shape.pooled_width, bin_x = bin % shape.pooled_width;
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
        const auto add = [&](int32_t row, float weight) {
          if (weight == 0.0f || row < row_begin || row >= row_end) return;
          weight /= count;
          const int32_t pixel = row * width;
          if (columns.low_weight != 0.0f)
            entries->push_back({pixel + columns.low, bin, weight * columns.low_weight});
          if (columns.high_weight != 0.0f)
            entries->push_back({pixel + columns.high, bin, weight * columns.high_weight});
        };
        add(rows.low, rows.low_weight);
        add(rows.high, rows.high_weight);
      }
    }
  }
}

}  // namespace tfdetect
