// Kernels of TfdetectRoiAlignRotated and its gradient for the GPU.
#include "gpu_op_helpers.h"
#include "roi_align_op.h"
#include "roi_align_rotated_gpu.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

template <typename T>
class RoiAlignRotatedGpuOp : public tensorflow::OpKernel {
 public:
  explicit RoiAlignRotatedGpuOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiAlignAttributes(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &features = context->input(0), &boxes = context->input(1);
    const Tensor &box_indices = context->input(2), &sizes = context->input(3);
    RoiAlignShape shape = attributes_;
    OP_REQUIRES_OK(context,
                   CheckRoiAlign(features.shape(), boxes, box_indices, sizes, &shape, 5));
    Tensor* output;
    const int64_t regions = boxes.dim_size(0);
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, RoiAlignOutputShape(shape, regions), &output));
    OP_REQUIRES_OK(context, Launched(LaunchRoiAlignRotated(
                                shape, FloatTypeOf<T>::value, features.flat<T>().data(),
                                boxes.flat<float>().data(), box_indices.flat<int32_t>().data(),
                                regions, output->flat<T>().data(), StreamOf(context))));
  }

 private:
  RoiAlignShape attributes_;
};

template <typename T>
class RoiAlignRotatedGradGpuOp : public tensorflow::OpKernel {
 public:
  explicit RoiAlignRotatedGradGpuOp(tensorflow::OpKernelConstruction* context)
      : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiAlignAttributes(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &grad = context->input(0), &boxes = context->input(1);
    const Tensor &box_indices = context->input(2), &sizes = context->input(3);
    RoiAlignShape shape = attributes_;
    tensorflow::TensorShape feature_shape;
    OP_REQUIRES_OK(context, CheckRoiAlignGrad(context->input(4), grad, boxes, box_indices, sizes,
                                              &shape, &feature_shape, 5));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, feature_shape, &output));
    OP_REQUIRES_OK(context, Launched(LaunchRoiAlignRotatedGradient(
                                shape, FloatTypeOf<T>::value, grad.flat<T>().data(),
                                boxes.flat<float>().data(), box_indices.flat<int32_t>().data(),
                                boxes.dim_size(0), output->flat<T>().data(), StreamOf(context))));
  }

 private:
  RoiAlignShape attributes_;
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiAlignRotated").Device(tensorflow::DEVICE_GPU),
                         RoiAlignRotatedGpuOp);
TFDETECT_REGISTER_FLOATS(
    Name("TfdetectRoiAlignRotatedGrad").Device(tensorflow::DEVICE_GPU).HostMemory("feature_shape"),
    RoiAlignRotatedGradGpuOp);

}  // namespace
}  // namespace tfdetect
