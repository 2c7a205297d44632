// Kernels of TfdetectDeformConv and its gradient for the GPU.
#include "deform_conv_gpu.h"
#include "deform_conv_op.h"
#include "gpu_op_helpers.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

class DeformConvGpuOp : public DeformConvBase {
 public:
  using DeformConvBase::DeformConvBase;

  void Compute(OpKernelContext* context) override {
    DeformConvShape shape;
    DeformConvInputs inputs;
    OP_REQUIRES_OK(context, Check(context, &shape, &inputs));
    Tensor *output, workspace;
    OP_REQUIRES_OK(context, context->allocate_output(0, {shape.images, shape.out_height,
                                                         shape.out_width, shape.out_channels},
                                                     &output));
    if (output->NumElements() == 0) return;
    OP_REQUIRES_OK(context, AllocateWorkspace(context, DeformConvWorkspace(shape), &workspace));
    OP_REQUIRES_OK(context, Launched(LaunchDeformConv(shape, inputs, workspace.data(),
                                                      output->flat<float>().data(),
                                                      StreamOf(context))));
  }
};

class DeformConvGradGpuOp : public DeformConvBase {
 public:
  using DeformConvBase::DeformConvBase;

  void Compute(OpKernelContext* context) override {
    DeformConvShape shape;
    DeformConvInputs inputs;
    OP_REQUIRES_OK(context, Check(context, &shape, &inputs));
    float* gradients[4];
    OP_REQUIRES_OK(context, AllocateGradients(context, shape, gradients));
    Tensor workspace;
    OP_REQUIRES_OK(context,
                   AllocateWorkspace(context, DeformConvGradientWorkspace(shape), &workspace));
    OP_REQUIRES_OK(
        context,
        Launched(LaunchDeformConvGradient(
            shape, inputs, context->input(4).flat<float>().data(), workspace.data(),
            {gradients[0], gradients[1], inputs.mask ? gradients[2] : nullptr, gradients[3]},
            StreamOf(context))));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectDeformConv").Device(tensorflow::DEVICE_GPU),
                        DeformConvGpuOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectDeformConvGrad").Device(tensorflow::DEVICE_GPU),
                        DeformConvGradGpuOp);

}  // namespace
}  // namespace tfdetect
