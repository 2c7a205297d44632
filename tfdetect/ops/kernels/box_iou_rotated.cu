// Intersection over union of rotated boxes on the GPU: a thread for every pair.
#include "box_iou_rotated.h"
#include "box_iou_rotated_gpu.h"
#include "gpu_kernels.h"

namespace tfdetect {
namespace {

constexpr int kThreads = 256;

__global__ void ShapesKernel(const float* boxes, int64_t n, RotatedShape* shapes) {
  const int64_t i = ThreadNumber(kThreads);
  if (i < n) shapes[i] = MakeRotatedShape(boxes + 5 * i);
}

__global__ void PairsKernel(const RotatedShape* shapes1, const RotatedShape* shapes2, int64_t n,
                            int64_t m, float* iou) {
  const int64_t pair = ThreadNumber(kThreads);
  if (pair < n * m) iou[pair] = RotatedIou(shapes1[pair / m], shapes2[pair % m]);
}

}  // namespace

int64_t BoxIouRotatedWorkspace(int64_t n, int64_t m) { return (n + m) * sizeof(RotatedShape); }

const char* LaunchBoxIouRotated(const float* boxes1, int64_t n, const float* boxes2, int64_t m,
                                void* workspace, float* iou, GpuStream stream) {
  if (n == 0 || m == 0) return nullptr;
  RotatedShape* shapes1 = static_cast<RotatedShape*>(workspace);
  RotatedShape* shapes2 = shapes1 + n;
  TFDETECT_LAUNCH(ShapesKernel, Blocks(n, kThreads), dim3(kThreads), stream, boxes1, n, shapes1);
  TFDETECT_LAUNCH(ShapesKernel, Blocks(m, kThreads), dim3(kThreads), stream, boxes2, m, shapes2);
  TFDETECT_LAUNCH(PairsKernel, Blocks(n * m, kThreads), dim3(kThreads), stream, shapes1, shapes2,
                  n, m, iou);
  return LaunchError();
}

}  // namespace tfdetect
