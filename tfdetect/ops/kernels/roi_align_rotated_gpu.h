// ROIAlign of rotated boxes and its gradient on the GPU; see roi_align_rotated_grid.h for the
// meaning.
#ifndef TFDETECT_ROI_ALIGN_ROTATED_GPU_H_
#define TFDETECT_ROI_ALIGN_ROTATED_GPU_H_

#include <cstdint>

#include "gpu.h"
#include "roi_align_axis.h"

namespace tfdetect {

// features [B, H, W, C] and output [R, ph, pw, C] of one type, boxes [R, 5], box_indices [R]; a
// region of an image that is not there is zeros. All of output is written.
const char* LaunchRoiAlignRotated(const RoiAlignShape& shape, FloatType type, const void* features,
                                  const float* boxes, const int32_t* box_indices, int64_t regions,
                                  void* output, GpuStream stream);

// grad [R, ph, pw, C] to output [B, H, W, C], all of it written: every pixel gathers from the
// regions in their order, so that the sums are the same every time.
const char* LaunchRoiAlignRotatedGradient(const RoiAlignShape& shape, FloatType type,
                                          const void* grad, const float* boxes,
                                          const int32_t* box_indices, int64_t regions,
                                          void* output, GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_ROI_ALIGN_ROTATED_GPU_H_
