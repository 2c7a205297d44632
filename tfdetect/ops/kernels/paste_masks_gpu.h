// Masks drawn into the image on the GPU; see paste_masks.h for the meaning.
#ifndef TFDETECT_PASTE_MASKS_GPU_H_
#define TFDETECT_PASTE_MASKS_GPU_H_

#include <cstdint>

#include "gpu.h"

namespace tfdetect {

// masks [n, side, side], boxes [n, 4] to output [n, height, width], all of it written.
const char* LaunchPasteMasks(const float* masks, const float* boxes, int64_t n, int64_t side,
                             int64_t height, int64_t width, float threshold, bool* output,
                             GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_PASTE_MASKS_GPU_H_
