// TfdetectRoiAlignRotated and its gradient: definitions, and kernels for the CPU.
#include "op_helpers.h"
#include "roi_align_op.h"
#include "roi_align_rotated.h"
#include "roi_shapes.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectRoiAlignRotated")
    .Input("features: T")
    .Input("boxes: float")
    .Input("box_indices: int32")
    .Input("sizes: int32")
    .Output("output: T")
    .Attr("pooled_height: int >= 1")
    .Attr("pooled_width: int >= 1")
    .Attr("spatial_scale: float")
    .Attr("sampling_ratio: int")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle pooled;
      TF_RETURN_IF_ERROR(PooledShape(c, 1, 5, &pooled));
      c->set_output(0, pooled);
      return absl::OkStatus();
    })
    .Doc("ROIAlignRotated of Detectron2 for features [B, H, W, C] and boxes [R, 5] (x centre, y "
         "centre, width, height, angle) in pixels of the input image and degrees: [R, "
         "pooled_height, pooled_width, C]. `sizes` as TfdetectRoiAlign's. On the GPU a region "
         "whose box_indices is out of range is zeros.");

REGISTER_OP("TfdetectRoiAlignRotatedGrad")
    .Input("grad: T")
    .Input("boxes: float")
    .Input("box_indices: int32")
    .Input("sizes: int32")
    .Input("feature_shape: int32")
    .Output("output: T")
    .Attr("pooled_height: int >= 1")
    .Attr("pooled_width: int >= 1")
    .Attr("spatial_scale: float")
    .Attr("sampling_ratio: int")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle grad;
      DimensionHandle regions;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &grad));
      TF_RETURN_IF_ERROR(RegionCount(c, 1, 5, &regions));
      return SetGradientShape(c, 4);
    })
    .Doc("The gradient of TfdetectRoiAlignRotated for the features, given that of its output.");

template <typename T>
class RoiAlignRotatedOp : public tensorflow::OpKernel {
 public:
  explicit RoiAlignRotatedOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiAlignAttributes(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &features = context->input(0), &boxes = context->input(1);
    const Tensor &box_indices = context->input(2), &sizes = context->input(3);
    RoiAlignShape shape = attributes_;
    OP_REQUIRES_OK(context,
                   CheckRoiAlign(features.shape(), boxes, box_indices, sizes, &shape, 5));
    OP_REQUIRES_OK(context, CheckIndices(box_indices, shape.images));
    Tensor* output;
    const int64_t regions = boxes.dim_size(0);
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, RoiAlignOutputShape(shape, regions), &output));
    if (output->NumElements() == 0) return;
    const int64_t cost = 4 * shape.pooled_height * shape.pooled_width * shape.channels;
    ParallelFor(context, regions, cost, [&](int64_t begin, int64_t end) {
      RoiAlignRotated(shape, Data<T>(features), boxes.flat<float>().data(),
                      box_indices.flat<int32_t>().data(), begin, end, MutableData<T>(output));
    });
  }

 private:
  RoiAlignShape attributes_;
};

template <typename T>
class RoiAlignRotatedGradOp : public tensorflow::OpKernel {
 public:
  explicit RoiAlignRotatedGradOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiAlignAttributes(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &grad = context->input(0), &boxes = context->input(1);
    const Tensor &box_indices = context->input(2), &sizes = context->input(3);
    RoiAlignShape shape = attributes_;
    tensorflow::TensorShape feature_shape;
    OP_REQUIRES_OK(context, CheckRoiAlignGrad(context->input(4), grad, boxes, box_indices, sizes,
                                              &shape, &feature_shape, 5));
    OP_REQUIRES_OK(context, CheckIndices(box_indices, shape.images));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, feature_shape, &output));
    if (output->NumElements() == 0) return;
    const RoiAlignRotatedGradient gradient(shape, boxes.flat<float>().data(),
                                           box_indices.flat<int32_t>().data(),
                                           boxes.dim_size(0));
    const int64_t cost = 32 * shape.width * shape.channels;
    ParallelTasks(context, gradient.tasks(), cost, [&](int64_t task) {
      gradient.Run(task, Data<T>(grad), MutableData<T>(output));
    });
  }

 private:
  RoiAlignShape attributes_;
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiAlignRotated").Device(tensorflow::DEVICE_CPU),
                         RoiAlignRotatedOp);
TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiAlignRotatedGrad").Device(tensorflow::DEVICE_CPU),
                         RoiAlignRotatedGradOp);

}  // namespace
}  // namespace tfdetect
