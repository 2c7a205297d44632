// Kernel of TfdetectResizeBilinearUint8 for the GPU.
#include "gpu_op_helpers.h"
#include "resize_gpu.h"
#include "resize_op.h"

namespace tfdetect {
namespace {

using tensorflow::Tensor;

class ResizeBilinearUint8GpuOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    Tensor *output, workspace;
    OP_REQUIRES_OK(context, CheckResize(context, &output));
    if (output->NumElements() == 0) return;
    const Tensor& image = context->input(0);
    const ResizeShape shape = {image.dim_size(0), image.dim_size(1), image.dim_size(2),
                               output->dim_size(0), output->dim_size(1)};
    OP_REQUIRES_OK(context, AllocateWorkspace(context, ResizeWorkspace(shape), &workspace));
    OP_REQUIRES_OK(context, Launched(LaunchResize(shape, image.flat<uint8_t>().data(),
                                                  workspace.data(),
                                                  output->flat<uint8_t>().data(),
                                                  StreamOf(context))));
  }
};

REGISTER_KERNEL_BUILDER(
    Name("TfdetectResizeBilinearUint8").Device(tensorflow::DEVICE_GPU).HostMemory("size"),
    ResizeBilinearUint8GpuOp);

}  // namespace
}  // namespace tfdetect
