// Kernels of TfdetectRoiPool and its gradient for the GPU.
#include "gpu_op_helpers.h"
#include "roi_pool_gpu.h"
#include "roi_pool_op.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

template <typename T>
class RoiPoolGpuOp : public tensorflow::OpKernel {
 public:
  explicit RoiPoolGpuOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiPoolAttributes(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &features = context->input(0), &boxes = context->input(1);
    const Tensor &box_indices = context->input(2), &sizes = context->input(3);
    RoiPoolShape shape = attributes_;
    OP_REQUIRES_OK(context, CheckRoiPool(features.shape(), boxes, box_indices, sizes, &shape));
    Tensor *output, *argmax;
    const int64_t regions = boxes.dim_size(0);
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, RoiPoolOutputShape(shape, regions), &output));
    OP_REQUIRES_OK(context,
                   context->allocate_output(1, RoiPoolOutputShape(shape, regions), &argmax));
    OP_REQUIRES_OK(context,
                   Launched(LaunchRoiPool(shape, FloatTypeOf<T>::value, features.flat<T>().data(),
                                          boxes.flat<float>().data(),
                                          box_indices.flat<int32_t>().data(), regions,
                                          output->flat<T>().data(),
                                          argmax->flat<int32_t>().data(), StreamOf(context))));
  }

 private:
  RoiPoolShape attributes_;
};

template <typename T>
class RoiPoolGradGpuOp : public tensorflow::OpKernel {
 public:
  explicit RoiPoolGradGpuOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor &grad = context->input(0), &argmax = context->input(1);
    const Tensor& box_indices = context->input(2);
    RoiPoolShape shape;
    tensorflow::TensorShape feature_shape;
    OP_REQUIRES_OK(context, CheckRoiPoolGrad(context->input(3), grad, argmax, box_indices, &shape,
                                             &feature_shape));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, feature_shape, &output));
    OP_REQUIRES_OK(context, Launched(LaunchRoiPoolGradient(
                                shape, FloatTypeOf<T>::value, grad.flat<T>().data(),
                                argmax.flat<int32_t>().data(), box_indices.flat<int32_t>().data(),
                                grad.dim_size(0), output->flat<float>().data(),
                                StreamOf(context))));
  }
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiPool").Device(tensorflow::DEVICE_GPU), RoiPoolGpuOp);
TFDETECT_REGISTER_FLOATS(
    Name("TfdetectRoiPoolGrad").Device(tensorflow::DEVICE_GPU).HostMemory("feature_shape"),
    RoiPoolGradGpuOp);

}  // namespace
}  // namespace tfdetect
