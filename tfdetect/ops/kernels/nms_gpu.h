// Non-maximum suppression within groups on the GPU; see nms.h for the meaning.
#ifndef TFDETECT_NMS_GPU_H_
#define TFDETECT_NMS_GPU_H_

#include <cstdint>

#include "gpu.h"

namespace tfdetect {

// Bytes of workspace for n boxes of so many numbers.
int64_t NmsWorkspace(int64_t n, int numbers);

// boxes [n, numbers] (4, or 5 if they are rotated), scores [n], group_ids [n] to keep [n], all of it written.
const char* LaunchNms(const float* boxes, int numbers, const float* scores,
                      const int32_t* group_ids, int64_t n, double iou_threshold, void* workspace,
                      bool* keep, GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_NMS_GPU_H_
