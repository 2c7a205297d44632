// ROIPool and its gradient on the GPU; see roi_pool_axis.h for the meaning.
#ifndef TFDETECT_ROI_POOL_GPU_H_
#define TFDETECT_ROI_POOL_GPU_H_

#include <cstdint>

#include "gpu.h"
#include "roi_pool_axis.h"

namespace tfdetect {

// features [B, H, W, C] and output [R, ph, pw, C] of one type, argmax [R, ph, pw, C] as in
// roi_pool.h; a region of an image that is not there is zeros. All of output and argmax is written.
const char* LaunchRoiPool(const RoiPoolShape& shape, FloatType type, const void* features,
                          const float* boxes, const int32_t* box_indices, int64_t regions,
                          void* output, int32_t* argmax, GpuStream stream);

// grad and argmax [R, ph, pw, C] to output [B, H, W, C], all of it written: every row gathers from
// the regions in their order, so that the sums are the same every time.
const char* LaunchRoiPoolGradient(const RoiPoolShape& shape, FloatType type, const void* grad,
                                  const int32_t* argmax, const int32_t* box_indices,
                                  int64_t regions, float* output, GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_ROI_POOL_GPU_H_
