// Keypoint heat maps to coordinates on the GPU; see decode_keypoints.h for the meaning.
#ifndef TFDETECT_DECODE_KEYPOINTS_GPU_H_
#define TFDETECT_DECODE_KEYPOINTS_GPU_H_

#include <cstdint>

#include "gpu.h"

namespace tfdetect {

// heatmaps [n, side, side, keypoints], boxes [n, 4] to output [n, keypoints, 4].
const char* LaunchDecodeKeypoints(const float* heatmaps, const float* boxes, int64_t n,
                                  int64_t side, int64_t keypoints, float* output,
                                  GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_DECODE_KEYPOINTS_GPU_H_
