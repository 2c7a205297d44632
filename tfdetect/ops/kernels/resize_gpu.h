// Bilinear resize of 8-bit images on the GPU; see resize.h for the meaning.
#ifndef TFDETECT_RESIZE_GPU_H_
#define TFDETECT_RESIZE_GPU_H_

#include <cstdint>

#include "gpu.h"

namespace tfdetect {

struct ResizeShape {
  int64_t height, width, channels;
  int64_t new_height, new_width;
};

// Bytes of workspace.
int64_t ResizeWorkspace(const ResizeShape& shape);

// image [height, width, channels] to output [new_height, new_width, channels]. No size is zero.
const char* LaunchResize(const ResizeShape& shape, const uint8_t* image, void* workspace,
                         uint8_t* output, GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_RESIZE_GPU_H_
