// Bilinear resize of 8-bit images, bit for bit what Pillow 11's Image.resize(BILINEAR) gives.
#ifndef TFDETECT_RESIZE_H_
#define TFDETECT_RESIZE_H_

#include <cstdint>
#include <vector>

#include "resize_axis.h"

namespace tfdetect {

// Images [height, width, channels] to [new_height, new_width, channels].
//
// Rows are filtered first, and rounded to 8 bits, then columns. (Later versions of Pillow put the
// columns first in some shapes.) Only as many filtered rows exist at a time as an output row is made
// of, so that they stay in the cache.
class ImageResize {
 public:
  // No number is below 1.
  ImageResize(int64_t height, int64_t width, int64_t channels, int64_t new_height,
              int64_t new_width);

  // Makes rows [begin, end) of `output`, which is all of it, of an image whose rows begin row_stride
  // bytes apart. Several threads may call it at once.
  void Rows(const uint8_t* image, int64_t row_stride, int64_t begin, int64_t end,
            uint8_t* output) const;

 private:
  // What each output coordinate along one axis is made of: `count` inputs from `first` on.
  struct Axis {
    Axis(int64_t in, int64_t out);
    int64_t stride;                // weights reserved per output coordinate
    std::vector<int32_t> first, count;
    std::vector<int32_t> weights;  // [outputs, stride]; 1.0 is 1 << 22
  };

  const int64_t height_, width_, channels_, new_height_, new_width_;
  const Axis down_;
  // Of the filter along rows: the first byte of each output pixel's inputs, and a weight for each
  // value, [taps, values of a row, rounded up], 0 where an output has fewer inputs.
  int64_t taps_, values_;
  std::vector<int64_t> offsets_;
  std::vector<int32_t> weights_;
};

}  // namespace tfdetect

#endif  // TFDETECT_RESIZE_H_
