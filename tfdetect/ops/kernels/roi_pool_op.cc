// TfdetectRoiPool and its gradient: definitions, and kernels for the CPU.
#include "op_helpers.h"
#include "roi_pool.h"
#include "roi_pool_op.h"
#include "roi_shapes.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectRoiPool")
    .Input("features: T")
    .Input("boxes: float")
    .Input("box_indices: int32")
    .Input("sizes: int32")
    .Output("output: T")
    .Output("argmax: int32")
    .Attr("pooled_height: int >= 1")
    .Attr("pooled_width: int >= 1")
    .Attr("spatial_scale: float")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle output;
      TF_RETURN_IF_ERROR(PooledShape(c, 1, 4, &output));
      c->set_output(0, output);
      c->set_output(1, output);
      return absl::OkStatus();
    })
    .Doc("roi_pool of torchvision for features [B, H, W, C] and XYXY boxes [R, 4] in pixels of the "
         "input image: [R, pooled_height, pooled_width, C], and which pixel, y * W + x, each is; -1 "
         "for none, which is 0. The features of image i end after sizes[i] rows and columns; with "
         "sizes [0, 2] they do not end before the map. On the GPU a region whose box_indices is "
         "out of range is zeros.");

REGISTER_OP("TfdetectRoiPoolGrad")
    .Input("grad: T")
    .Input("argmax: int32")
    .Input("box_indices: int32")
    .Input("feature_shape: int32")
    .Output("output: float")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      return SetGradientShape(c, 3);
    })
    .Doc("The gradient of TfdetectRoiPool for the features, in float32, given that of its output.");

template <typename T>
class RoiPoolOp : public tensorflow::OpKernel {
 public:
  explicit RoiPoolOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiPoolAttributes(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &features = context->input(0), &boxes = context->input(1);
    const Tensor &box_indices = context->input(2), &sizes = context->input(3);
    RoiPoolShape shape = attributes_;
    OP_REQUIRES_OK(context, CheckRoiPool(features.shape(), boxes, box_indices, sizes, &shape));
    OP_REQUIRES_OK(context, CheckIndices(box_indices, shape.images));
    Tensor *output, *argmax;
    const int64_t regions = boxes.dim_size(0);
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, RoiPoolOutputShape(shape, regions), &output));
    OP_REQUIRES_OK(context,
                   context->allocate_output(1, RoiPoolOutputShape(shape, regions), &argmax));
    if (output->NumElements() == 0) return;
    const int64_t cost = 4 * shape.pooled_height * shape.pooled_width * shape.channels;
    ParallelFor(context, regions, cost, [&](int64_t begin, int64_t end) {
      RoiPool(shape, Data<T>(features), boxes.flat<float>().data(),
              box_indices.flat<int32_t>().data(), begin, end, MutableData<T>(output),
              argmax->flat<int32_t>().data());
    });
  }

 private:
  RoiPoolShape attributes_;
};

template <typename T>
class RoiPoolGradOp : public tensorflow::OpKernel {
 public:
  explicit RoiPoolGradOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {}

  void Compute(OpKernelContext* context) override {
    const Tensor &grad = context->input(0), &argmax = context->input(1);
    const Tensor& box_indices = context->input(2);
    RoiPoolShape shape;
    tensorflow::TensorShape feature_shape;
    OP_REQUIRES_OK(context, CheckRoiPoolGrad(context->input(3), grad, argmax, box_indices, &shape,
                                             &feature_shape));
    OP_REQUIRES_OK(context, CheckIndices(box_indices, shape.images));
    const auto pixels = argmax.flat<int32_t>();
    for (int64_t i = 0; i < pixels.size(); ++i)
      OP_REQUIRES(context, pixels(i) < shape.height * shape.width,
                  tensorflow::errors::InvalidArgument("argmax[", i, "] is ", pixels(i),
                                                      ", which is beyond the features"));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, feature_shape, &output));
    if (output->NumElements() == 0) return;
    float* result = output->flat<float>().data();
    std::fill(result, result + output->NumElements(), 0.0f);
    const int64_t tasks = RoiPoolGradientTasks(shape);
    ParallelTasks(context, tasks, grad.NumElements() / tasks, [&](int64_t task) {
      RoiPoolGradient(shape, Data<T>(grad), argmax.flat<int32_t>().data(),
                      box_indices.flat<int32_t>().data(), grad.dim_size(0), task, result);
    });
  }
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiPool").Device(tensorflow::DEVICE_CPU), RoiPoolOp);
TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiPoolGrad").Device(tensorflow::DEVICE_CPU), RoiPoolGradOp);

}  // namespace
}  // namespace tfdetect
