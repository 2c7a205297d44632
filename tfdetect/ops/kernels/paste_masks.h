// Masks of a fixed resolution drawn into the image, as Detectron2's paste_masks_in_image does.
#ifndef TFDETECT_PASTE_MASKS_H_
#define TFDETECT_PASTE_MASKS_H_

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace tfdetect {

// Where the centre of a pixel falls in a mask with a border of zeros: the index of the lower
// neighbour, counted with the border, and the fraction beyond it.
struct MaskSample {
  int32_t lower;
  float fraction;
};

// For a mask that spans [low, high], by the float32 steps of grid_sample: to [-1, 1], then to the
// mask's pixels.
TFDETECT_HOST_DEVICE MaskSample SampleMask(float low, float high, int64_t side, int64_t pixel) {
  const float half_side = static_cast<float>(side) / 2.0f;
  const float relative = (static_cast<float>(pixel) + 0.5f - low) / (high - low) * 2.0f - 1.0f;
  const float location = (relative + 1.0f) * half_side - 0.5f;
  const float lower = floorf(location);
  // Outside, the sample is the border's corner of zeros whatever the other axis says.
  if (!(lower >= -1.0f && lower < static_cast<float>(side))) return {0, 0.0f};
  return {static_cast<int32_t>(lower) + 1, location - lower};
}

// Masks [begin, end) of [N, side, side], with XYXY boxes [N, 4] in pixels of the output, to
// output [N, height, width]: whether the mask, sampled bilinearly at the centre of the pixel and
// zero beyond its border, is at least `threshold`. False everywhere for a box that is not finite
// or not longer than zero, and more than about a pixel outside of the box, as on Detectron2's CPU
// path (with masks up to 1 and a threshold of 0.5 or more nothing would be true there anyway).
void PasteMasks(const float* masks, const float* boxes, int64_t side, int64_t height,
                int64_t width, float threshold, int64_t begin, int64_t end, bool* output);

}  // namespace tfdetect

#endif  // TFDETECT_PASTE_MASKS_H_
