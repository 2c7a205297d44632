// Kernel of TfdetectPasteMasks for the GPU.
#include "gpu_op_helpers.h"
#include "paste_masks_gpu.h"
#include "paste_masks_op.h"

namespace tfdetect {
namespace {

using tensorflow::Tensor;

class PasteMasksGpuOp : public tensorflow::OpKernel {
 public:
  explicit PasteMasksGpuOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("threshold", &threshold_));
  }

  void Compute(tensorflow::OpKernelContext* context) override {
    tensorflow::TensorShape shape;
    OP_REQUIRES_OK(context, CheckPasteMasks(context, &shape));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    const Tensor &masks = context->input(0), &boxes = context->input(1);
    OP_REQUIRES_OK(context,
                   Launched(LaunchPasteMasks(masks.flat<float>().data(),
                                             boxes.flat<float>().data(), masks.dim_size(0),
                                             masks.dim_size(1), output->dim_size(1),
                                             output->dim_size(2), threshold_,
                                             output->flat<bool>().data(), StreamOf(context))));
  }

 private:
  float threshold_;
};

REGISTER_KERNEL_BUILDER(
    Name("TfdetectPasteMasks").Device(tensorflow::DEVICE_GPU).HostMemory("size"),
    PasteMasksGpuOp);

}  // namespace
}  // namespace tfdetect
