// What convolutions as matrix products of every element type share.
#ifndef TFDETECT_CONVOLUTION_H_
#define TFDETECT_CONVOLUTION_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "convolution_tasks.h"
#include "matmul.h"

namespace tfdetect {

// The features [B, height, width, channels] of a convolution, and its output's sides.
struct Grid {
  int64_t height, width, channels;
  int kernel_size, stride, padding;
  int64_t out_height, out_width;

  Grid(int64_t height, int64_t width, int64_t channels, int kernel_size, int stride, int padding)
      : height(height),
        width(width),
        channels(channels),
        kernel_size(kernel_size),
        stride(stride),
        padding(padding),
        out_height(Outputs(height)),
        out_width(Outputs(width)) {}

  int64_t Outputs(int64_t side) const {
    return std::max<int64_t>(side + 2 * padding - kernel_size + stride, 0) / stride;
  }

  // The channels [first, first + count) of an output's input window, one location after another.
  template <typename T>
  T* Gather(const T* x, int64_t row, int64_t first, int64_t count, T* to) const {
    const int64_t line = row / out_width, image = line / out_height;
    const int64_t left = row % out_width * stride - padding;
    const int64_t top = line % out_height * stride - padding;
    const bool whole = count == channels && left >= 0 && left + kernel_size <= width;
    for (int64_t y = top; y < top + kernel_size; ++y) {
      const T* locations = x + ((image * height + y) * width + left) * channels;
      if (y < 0 || y >= height) {
        to = std::fill_n(to, kernel_size * count, T{});
      } else if (whole) {
        to = std::copy_n(locations, kernel_size * count, to);
      } else {
        for (int64_t i = 0; i < kernel_size; ++i) {
          const bool inside = left + i >= 0 && left + i < width;
          to = inside ? std::copy_n(locations + i * channels + first, count, to)
                      : std::fill_n(to, count, T{});
        }
      }
    }
    return to;
  }

  // Rows [begin, end) of a map of half the output's height and width, upsampled 2x.
  template <typename T, typename Copy>
  void Upsample(const T* halves, int64_t begin, int64_t end, int64_t columns,
                const Copy& copy) const {
    for (int64_t row = begin; row < end; ++row) {
      // Images do not matter to it: their heights are even.
      const int64_t y = row / out_width / 2, x = row % out_width / 2;
      copy(halves + (y * (out_width / 2) + x) * columns, row);
    }
  }
};

// Calls function(m, matrix, rows, columns) for each matrix [rows, columns] that a weight
// [taps, Cin / groups, Cout] is as products.
template <typename T, typename Function>
void ForMatrices(const T* weight, int64_t taps, int64_t channels, int64_t outputs, int64_t groups,
                 const Function& function) {
  const int64_t merged = MergedGroups(groups, outputs), width = outputs / groups;
  const int64_t rows = taps * merged * channels, columns = width * merged;
  std::vector<T> matrix(rows * columns);
  for (int64_t m = 0; m < groups / merged; ++m) {
    std::fill(matrix.begin(), matrix.end(), T{});
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t tap = row / (merged * channels), group = row / channels % merged;
      std::copy_n(
          weight + (tap * channels + row % channels) * outputs + m * columns + group * width, width,
          &matrix[row * columns + group * width]);
    }
    function(m, matrix.data(), rows, columns);
  }
}

}  // namespace tfdetect

#endif  // TFDETECT_CONVOLUTION_H_
