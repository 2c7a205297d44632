// Kernels of TfdetectNms and TfdetectNmsRotated for the GPU.
#include "gpu_op_helpers.h"
#include "nms_gpu.h"
#include "nms_op.h"

namespace tfdetect {
namespace {

using tensorflow::Tensor;

template <int kNumbers>
class NmsGpuOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    OP_REQUIRES_OK(context, CheckNms(context, kNumbers));
    const int64_t n = context->input(0).dim_size(0);
    Tensor *output, workspace;
    OP_REQUIRES_OK(context, context->allocate_output(0, {n}, &output));
    OP_REQUIRES_OK(context, AllocateWorkspace(context, NmsWorkspace(n, kNumbers), &workspace));
    OP_REQUIRES_OK(
        context,
        Launched(LaunchNms(context->input(0).flat<float>().data(), kNumbers,
                           context->input(1).flat<float>().data(),
                           context->input(2).flat<int32_t>().data(), n,
                           context->input(3).scalar<double>()(), workspace.data(),
                           output->flat<bool>().data(), StreamOf(context))));
  }
};

REGISTER_KERNEL_BUILDER(
    Name("TfdetectNms").Device(tensorflow::DEVICE_GPU).HostMemory("iou_threshold"), NmsGpuOp<4>);
REGISTER_KERNEL_BUILDER(
    Name("TfdetectNmsRotated").Device(tensorflow::DEVICE_GPU).HostMemory("iou_threshold"),
    NmsGpuOp<5>);

}  // namespace
}  // namespace tfdetect
