// ROIPool and its gradient on the CPU; see roi_pool_axis.h for the meaning.
#ifndef TFDETECT_ROI_POOL_H_
#define TFDETECT_ROI_POOL_H_

#include <cstdint>

#include "half.h"
#include "roi_pool_axis.h"

namespace tfdetect {

// Regions [begin, end): features [B, H, W, C], boxes [R, 4], box_indices [R] in [0, B), output
// [R, ph, pw, C] and argmax of the same shape: the first of the largest pixels of a bin, y * W + x,
// or -1 for a bin without pixels, which is 0. T is float, Half or BFloat16.
template <typename T>
void RoiPool(const RoiPoolShape& shape, const T* features, const float* boxes,
             const int32_t* box_indices, int64_t begin, int64_t end, T* output, int32_t* argmax);

// The gradient for the features. A task owns some channels of one image and goes through the regions
// in their order, so the sums do not depend on the number of threads.
int64_t RoiPoolGradientTasks(const RoiPoolShape& shape);

// One task: grad and argmax [R, ph, pw, C] to output [B, H, W, C], which was filled with zeros.
template <typename T>
void RoiPoolGradient(const RoiPoolShape& shape, const T* grad, const int32_t* argmax,
                     const int32_t* box_indices, int64_t regions, int64_t task, float* output);

}  // namespace tfdetect

#endif  // TFDETECT_ROI_POOL_H_
