// Kernel of TfdetectBoxIouRotated for the GPU.
#include "box_iou_rotated_gpu.h"
#include "box_iou_rotated_op.h"
#include "gpu_op_helpers.h"

namespace tfdetect {
namespace {

using tensorflow::Tensor;

class BoxIouRotatedGpuOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    const Tensor &boxes1 = context->input(0), &boxes2 = context->input(1);
    Tensor *output, workspace;
    OP_REQUIRES_OK(context, PrepareBoxIouRotated(context, &output));
    const int64_t n = boxes1.dim_size(0), m = boxes2.dim_size(0);
    OP_REQUIRES_OK(context,
                   AllocateWorkspace(context, BoxIouRotatedWorkspace(n, m), &workspace));
    OP_REQUIRES_OK(context, Launched(LaunchBoxIouRotated(
                                boxes1.flat<float>().data(), n, boxes2.flat<float>().data(), m,
                                workspace.data(), output->flat<float>().data(),
                                StreamOf(context))));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectBoxIouRotated").Device(tensorflow::DEVICE_GPU),
                        BoxIouRotatedGpuOp);

}  // namespace
}  // namespace tfdetect
