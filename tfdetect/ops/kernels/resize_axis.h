// The weights of a bilinear resize of 8-bit images along one axis, as in Pillow's resample.c.
//
// A triangle filter, stretched when shrinking so that it averages (its support is then that many
// input pixels), applied along one axis and then the other in 22-bit fixed point, with a rounding
// to 8 bits after each.
#ifndef TFDETECT_RESIZE_AXIS_H_
#define TFDETECT_RESIZE_AXIS_H_

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace tfdetect {

constexpr int kResizePrecision = 22;
constexpr int32_t kResizeHalf = 1 << (kResizePrecision - 1);

// The rounded pixel of a sum that began with kResizeHalf. Inlined into hot loops' versions.
#if defined(__GNUC__) && !defined(__CUDACC__)
__attribute__((always_inline))
#endif
TFDETECT_HOST_DEVICE uint8_t ResizeClip(int32_t sum) {
  const int32_t value = sum >> kResizePrecision;
  return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value);
}

TFDETECT_HOST_DEVICE double ResizeStretch(int64_t in, int64_t out) {
  const double scale = static_cast<double>(in) / static_cast<double>(out);
  return scale > 1.0 ? scale : 1.0;
}

// No output coordinate has more weights than this. in and out are at least 1.
TFDETECT_HOST_DEVICE int64_t ResizeTaps(int64_t in, int64_t out) {
  return 2 * static_cast<int64_t>(ceil(ResizeStretch(in, out))) + 1;
}

// The inputs of output coordinate o: `count` weights from `first` on, where 1.0 is 1 << 22.
TFDETECT_HOST_DEVICE void ResizeWeights(int64_t in, int64_t out, int64_t o, int32_t* first,
                                        int32_t* count, int32_t* weights) {
  const double stretch = ResizeStretch(in, out), per_pixel = 1.0 / stretch;
  const double center =
      (static_cast<double>(o) + 0.5) * (static_cast<double>(in) / static_cast<double>(out));
  // Rounded as an int conversion does; the filter's support is `stretch` to either side.
  int64_t begin = static_cast<int64_t>(center - stretch + 0.5);
  int64_t end = static_cast<int64_t>(center + stretch + 0.5);
  begin = begin > 0 ? begin : 0;
  end = end < in ? end : in;
  const auto filter = [=](int64_t i) {
    const double distance = fabs((static_cast<double>(i) - center + 0.5) * per_pixel);
    return distance < 1.0 ? 1.0 - distance : 0.0;
  };
  double total = 0.0;
  for (int64_t i = begin; i < end; ++i) total += filter(i);
  *first = static_cast<int32_t>(begin);
  *count = static_cast<int32_t>(end - begin);
  for (int64_t i = begin; i < end; ++i) {
    const double weight = total != 0.0 ? filter(i) / total : filter(i);
    weights[i - begin] = static_cast<int32_t>(0.5 + weight * (1 << kResizePrecision));
  }
}

}  // namespace tfdetect

#endif  // TFDETECT_RESIZE_AXIS_H_
