// Kernels of TfdetectPointSample and its gradient for the GPU.
#include "gpu_op_helpers.h"
#include "point_sample_gpu.h"
#include "point_sample_op.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;

template <typename T>
class PointSampleGpuOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &features = context->input(0), &points = context->input(1);
    const Tensor& map_indices = context->input(2);
    PointSampleShape shape;
    OP_REQUIRES_OK(context, CheckPointSample(features.shape(), points, map_indices,
                                             context->input(3), &shape));
    Tensor* output;
    const int64_t rows = points.dim_size(0);
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, PointSampleOutputShape(shape, rows), &output));
    OP_REQUIRES_OK(context, Launched(LaunchPointSample(
                                shape, FloatTypeOf<T>::value, features.flat<T>().data(),
                                points.flat<float>().data(), map_indices.flat<int32_t>().data(),
                                rows, output->flat<T>().data(), StreamOf(context))));
  }
};

template <typename T>
class PointSampleGradGpuOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &grad = context->input(0), &points = context->input(1);
    const Tensor& map_indices = context->input(2);
    PointSampleShape shape;
    tensorflow::TensorShape feature_shape;
    OP_REQUIRES_OK(context,
                   CheckPointSampleGrad(context->input(4), grad, points, map_indices,
                                        context->input(3), &shape, &feature_shape));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, feature_shape, &output));
    OP_REQUIRES_OK(context,
                   Launched(LaunchPointSampleGradient(
                       shape, FloatTypeOf<T>::value, grad.flat<T>().data(),
                       points.flat<float>().data(), map_indices.flat<int32_t>().data(),
                       points.dim_size(0), output->flat<T>().data(), StreamOf(context))));
  }
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectPointSample").Device(tensorflow::DEVICE_GPU),
                         PointSampleGpuOp);
TFDETECT_REGISTER_FLOATS(
    Name("TfdetectPointSampleGrad").Device(tensorflow::DEVICE_GPU).HostMemory("feature_shape"),
    PointSampleGradGpuOp);

}  // namespace
}  // namespace tfdetect
