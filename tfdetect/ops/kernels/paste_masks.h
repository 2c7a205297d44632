// Masks of a fixed resolution drawn into the image, as Detectron2's paste_masks_in_image does.
#ifndef TFDETECT_PASTE_MASKS_H_
#define TFDETECT_PASTE_MASKS_H_

#include <cstdint>

namespace tfdetect {

// Masks [begin, end) of [N, side, side], with XYXY boxes [N, 4] in pixels of the output, to
// output [N, height, width]: whether the mask, sampled bilinearly at the centre of the pixel and
// zero beyond its border, is at least `threshold`. False everywhere for a box that is not finite
// or not longer than zero, and more than about a pixel outside of the box, as on Detectron2's CPU
// path (with masks up to 1 and a threshold of 0.5 or more nothing would be true there anyway).
void PasteMasks(const float* masks, const float* boxes, int64_t side, int64_t height,
                int64_t width, float threshold, int64_t begin, int64_t end, bool* output);

}  // namespace tfdetect

#endif  // TFDETECT_PASTE_MASKS_H_
