// Bicubic interpolation (a = -0.75, borders repeated, pixel centres aligned) along one axis, as in
// PyTorch's interpolate(mode="bicubic", align_corners=False).
#ifndef TFDETECT_BICUBIC_H_
#define TFDETECT_BICUBIC_H_

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace tfdetect {

// The four inputs of an output coordinate, and their weights.
struct BicubicTaps {
  int32_t index[4];
  float weight[4];
};

TFDETECT_HOST_DEVICE BicubicTaps MakeBicubicTaps(int64_t in, int64_t out, int64_t o) {
  constexpr float a = -0.75f;
  const auto near = [](float t) { return ((a + 2.0f) * t - (a + 3.0f)) * t * t + 1.0f; };
  const auto far = [](float t) { return ((a * t - 5.0f * a) * t + 8.0f * a) * t - 4.0f * a; };
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  const float position = scale * (static_cast<float>(o) + 0.5f) - 0.5f;
  const float lower = floorf(position), t = position - lower;
  BicubicTaps taps = {{}, {far(t + 1.0f), near(t), near(1.0f - t), far(2.0f - t)}};
  for (int k = 0; k < 4; ++k) {
    const int64_t index = static_cast<int64_t>(lower) - 1 + k;
    taps.index[k] = static_cast<int32_t>(index < 0 ? 0 : index < in ? index : in - 1);
  }
  return taps;
}

}  // namespace tfdetect

#endif  // TFDETECT_BICUBIC_H_
