// Bilinear resize of 8-bit images, bit for bit what Pillow 11's Image.resize(BILINEAR) gives.
#ifndef TFDETECT_RESIZE_H_
#define TFDETECT_RESIZE_H_

#include <cstdint>
#include <vector>

#include "resize_axis.h"

namespace tfdetect {

// The inputs of every output coordinate along one axis: `count` weights from `first` on.
struct ResizeAxis {
  int64_t stride;                // weights reserved per output coordinate
  std::vector<int32_t> first, count;
  std::vector<int32_t> weights;  // [outputs, stride], 1.0 is 1 << 22
};

// in and out are at least 1.
ResizeAxis MakeResizeAxis(int64_t in, int64_t out);

// Rows [begin, end) of image [rows, width, channels] to [rows, axis outputs, channels].
void ResizeRows(const ResizeAxis& axis, const uint8_t* image, int64_t width, int64_t channels,
                int64_t begin, int64_t end, uint8_t* output);

// Output rows [begin, end), each of row_size bytes, from image [input rows, row_size].
void ResizeColumns(const ResizeAxis& axis, const uint8_t* image, int64_t row_size, int64_t begin,
                   int64_t end, uint8_t* output);

}  // namespace tfdetect

#endif  // TFDETECT_RESIZE_H_
