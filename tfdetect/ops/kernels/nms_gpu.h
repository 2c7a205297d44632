// Non-maximum suppression within groups on the GPU; see nms.h for the meaning.
#ifndef TFDETECT_NMS_GPU_H_
#define TFDETECT_NMS_GPU_H_

#include <cstdint>

#include "gpu.h"

namespace tfdetect {

// Bytes of workspace for n boxes.
int64_t NmsWorkspace(int64_t n);

// boxes [n, 4], scores [n], group_ids [n] to keep [n], all of it written.
const char* LaunchNms(const float* boxes, const float* scores, const int32_t* group_ids, int64_t n,
                      double iou_threshold, void* workspace, bool* keep, GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_NMS_GPU_H_
