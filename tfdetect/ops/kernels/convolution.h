// What convolutions as matrix products of every element type share.
#ifndef TFDETECT_CONVOLUTION_H_
#define TFDETECT_CONVOLUTION_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "convolution_tasks.h"
#include "matmul.h"

namespace tfdetect {

// How many outputs a side of a map has.
inline int64_t ConvolutionOutputs(int64_t side, int64_t kernel_size, int64_t stride,
                                  int64_t padding, int64_t dilation = 1) {
  const int64_t reach = dilation * (kernel_size - 1);
  return std::max<int64_t>(side + 2 * padding - reach - 1 + stride, 0) / stride;
}

// The features [B, height, width, channels] of a convolution, and its output's sides.
struct Grid {
  int64_t height, width, channels;
  int kernel_size, stride, padding, dilation;
  int64_t out_height, out_width;

  Grid(int64_t height, int64_t width, int64_t channels, int kernel_size, int stride, int padding,
       int dilation = 1)
      : height(height),
        width(width),
        channels(channels),
        kernel_size(kernel_size),
        stride(stride),
        padding(padding),
        dilation(dilation),
        out_height(ConvolutionOutputs(height, kernel_size, stride, padding, dilation)),
        out_width(ConvolutionOutputs(width, kernel_size, stride, padding, dilation)) {}

  // The channels [first, first + count) of an output's input window, one location after another;
  // the end of them.
  template <typename T>
  T* Gather(const T* x, int64_t row, int64_t first, int64_t count, T* to) const {
    const auto copy = [](const T* from, int64_t count, T* to) { std::copy_n(from, count, to); };
    return Gather(x, nullptr, row, first, count, T{}, copy, to);
  }

  // The same as read(from, count, to) puts them, and `nothing` in the padding and beyond sizes
  // [B, 2], (height, width) at the top left of each image; null: nothing is beyond.
  template <typename T, typename To, typename Read>
  To* Gather(const T* x, const int32_t* sizes, int64_t row, int64_t first, int64_t count,
             To nothing, const Read& read, To* to) const {
    const int64_t line = row / out_width, image = line / out_height;
    const int64_t left = row % out_width * stride - padding;
    const int64_t top = line % out_height * stride - padding;
    const int64_t bottom = sizes ? std::min<int64_t>(sizes[image * 2], height) : height;
    const int64_t right = sizes ? std::min<int64_t>(sizes[image * 2 + 1], width) : width;
    const bool whole =
        dilation == 1 && count == channels && left >= 0 && left + kernel_size <= right;
    for (int64_t i = 0; i < kernel_size; ++i) {
      const int64_t y = top + i * dilation;
      const T* locations = x + ((image * height + y) * width + left) * channels + first;
      if (y < 0 || y >= bottom) {
        to = std::fill_n(to, kernel_size * count, nothing);
      } else if (whole) {
        read(locations, kernel_size * count, to);
        to += kernel_size * count;
      } else {
        for (int64_t j = 0; j < kernel_size; ++j, to += count) {
          const int64_t at = left + j * dilation;
          if (at >= 0 && at < right)
            read(locations + j * dilation * channels, count, to);
          else
            std::fill_n(to, count, nothing);
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
