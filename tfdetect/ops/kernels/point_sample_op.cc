// TfdetectPointSample and its gradient: definitions, and kernels for the CPU.
#include "op_helpers.h"
#include "point_sample.h"
#include "point_sample_op.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectPointSample")
    .Input("features: T")
    .Input("points: float")
    .Input("map_indices: int32")
    .Input("sizes: int32")
    .Output("output: T")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle features, points, indices;
      DimensionHandle rows;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &features));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 3, &points));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 1, &indices));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(points, 0), c->Dim(indices, 0), &rows));
      c->set_output(0, c->MakeShape({rows, c->Dim(points, 1), c->Dim(features, 3)}));
      return absl::OkStatus();
    })
    .Doc("Bilinear samples of features [B, H, W, C] at points [R, P, 2] of (x, y) in [0, 1] of "
         "the map map_indices[r], with zeros around it: [R, P, C]. Map i ends after sizes[i] rows "
         "and columns; with sizes [0, 2] they do not end before the tensor. On the GPU a row whose "
         "map_indices is out of range is zeros.");

REGISTER_OP("TfdetectPointSampleGrad")
    .Input("grad: T")
    .Input("points: float")
    .Input("map_indices: int32")
    .Input("sizes: int32")
    .Input("feature_shape: int32")
    .Output("output: T")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      return SetGradientShape(c, 4);
    })
    .Doc("The gradient of TfdetectPointSample for the features, given that of its output.");

template <typename T>
class PointSampleOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &features = context->input(0), &points = context->input(1);
    const Tensor& map_indices = context->input(2);
    PointSampleShape shape;
    OP_REQUIRES_OK(context, CheckPointSample(features.shape(), points, map_indices,
                                             context->input(3), &shape));
    OP_REQUIRES_OK(context, CheckIndices(map_indices, shape.maps));
    Tensor* output;
    const int64_t rows = points.dim_size(0);
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, PointSampleOutputShape(shape, rows), &output));
    if (output->NumElements() == 0) return;
    ParallelFor(context, rows * shape.points, shape.channels, [&](int64_t begin, int64_t end) {
      PointSample(shape, Data<T>(features), points.flat<float>().data(),
                  map_indices.flat<int32_t>().data(), begin, end, MutableData<T>(output));
    });
  }
};

template <typename T>
class PointSampleGradOp : public tensorflow::OpKernel {
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
    OP_REQUIRES_OK(context, CheckIndices(map_indices, shape.maps));
    const int64_t rows = points.dim_size(0);
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, feature_shape, &output));
    if (output->NumElements() == 0) return;
    const PointSampleGradient gradient(shape, points.flat<float>().data(),
                                       map_indices.flat<int32_t>().data(), rows);
    const int64_t cost = shape.height * shape.width * 32 + rows * shape.points * 100;
    ParallelTasks(context, gradient.tasks(), cost, [&](int64_t task) {
      gradient.Run(task, Data<T>(grad), MutableData<T>(output));
    });
  }
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectPointSample").Device(tensorflow::DEVICE_CPU), PointSampleOp);
TFDETECT_REGISTER_FLOATS(Name("TfdetectPointSampleGrad").Device(tensorflow::DEVICE_CPU),
                         PointSampleGradOp);

}  // namespace
}  // namespace tfdetect
