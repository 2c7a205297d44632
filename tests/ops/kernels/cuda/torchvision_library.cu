// What compare_with_torchvision.py calls, of operators that torchvision has kernels for too.

#include "deform_conv_gpu.h"
#include "nms_gpu.h"
#include "roi_align_gpu.h"

using namespace tfdetect;

extern "C" {

// type: 0 float32, 1 float16, 2 bfloat16; sizes: B, H, W, C, bins along y, bins along x.
const char* tfdetect_roi_align(const int64_t* sizes, float spatial_scale, int sampling_ratio,
                               int aligned, int type, int is_gradient, const void* from,
                               const float* boxes, const int32_t* box_indices, int64_t regions,
                               void* to, void* stream) {
  const RoiAlignShape shape = {sizes[0], sizes[1], sizes[2], sizes[3],
                               static_cast<int32_t>(sizes[4]), static_cast<int32_t>(sizes[5]),
                               spatial_scale, sampling_ratio, aligned != 0, nullptr};
  const auto launch = is_gradient ? LaunchRoiAlignGradient : LaunchRoiAlign;
  return launch(shape, static_cast<FloatType>(type), from, boxes, box_indices, regions, to,
                static_cast<GpuStream>(stream));
}

int64_t tfdetect_nms_workspace(int64_t n) { return NmsWorkspace(n, 4); }

const char* tfdetect_nms(const float* boxes, const float* scores, const int32_t* group_ids,
                         int64_t n, double iou_threshold, void* workspace, bool* keep,
                         void* stream) {
  return LaunchNms(boxes, 4, scores, group_ids, n, iou_threshold, workspace, keep,
                   static_cast<GpuStream>(stream));
}

// shape: the fields of DeformConvShape.
int64_t tfdetect_deform_conv_workspace(const DeformConvShape* shape) {
  return DeformConvGradientWorkspace(*shape);
}

const char* tfdetect_deform_conv(const DeformConvShape* shape, const float* x, const float* offset,
                                 const float* mask, const float* weight, void* workspace, float* y,
                                 void* stream) {
  return LaunchDeformConv(*shape, {x, offset, mask, weight}, workspace, y,
                          static_cast<GpuStream>(stream));
}

const char* tfdetect_deform_conv_gradient(const DeformConvShape* shape, const float* x,
                                          const float* offset, const float* mask,
                                          const float* weight, const float* dy, void* workspace,
                                          float* d_x, float* d_offset, float* d_mask,
                                          float* d_weight, void* stream) {
  return LaunchDeformConvGradient(*shape, {x, offset, mask, weight}, dy, workspace,
                                  {d_x, d_offset, d_mask, d_weight},
                                  static_cast<GpuStream>(stream));
}

}  // extern "C"
