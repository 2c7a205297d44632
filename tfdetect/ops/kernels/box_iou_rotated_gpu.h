// Intersection over union of rotated boxes on the GPU.
#ifndef TFDETECT_BOX_IOU_ROTATED_GPU_H_
#define TFDETECT_BOX_IOU_ROTATED_GPU_H_

#include <cstdint>

#include "gpu.h"

namespace tfdetect {

// Bytes of workspace for boxes [n, 5] and [m, 5].
int64_t BoxIouRotatedWorkspace(int64_t n, int64_t m);

// boxes1 [n, 5] and boxes2 [m, 5] to iou [n, m].
const char* LaunchBoxIouRotated(const float* boxes1, int64_t n, const float* boxes2, int64_t m,
                                void* workspace, float* iou, GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_BOX_IOU_ROTATED_GPU_H_
