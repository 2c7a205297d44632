// Kernel of TfdetectDecodeKeypoints for the GPU.
#include "decode_keypoints_gpu.h"
#include "decode_keypoints_op.h"
#include "gpu_op_helpers.h"

namespace tfdetect {
namespace {

using tensorflow::Tensor;

class DecodeKeypointsGpuOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    Tensor* output;
    OP_REQUIRES_OK(context, CheckDecodeKeypoints(context, &output));
    const Tensor &heatmaps = context->input(0), &boxes = context->input(1);
    OP_REQUIRES_OK(context,
                   Launched(LaunchDecodeKeypoints(
                       heatmaps.flat<float>().data(), boxes.flat<float>().data(),
                       heatmaps.dim_size(0), heatmaps.dim_size(1), heatmaps.dim_size(3),
                       output->flat<float>().data(), StreamOf(context))));
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectDecodeKeypoints").Device(tensorflow::DEVICE_GPU),
                        DecodeKeypointsGpuOp);

}  // namespace
}  // namespace tfdetect
