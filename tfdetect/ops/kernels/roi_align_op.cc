// TfdetectRoiAlign, its gradient and TfdetectRoiAlignLevels: definitions, and kernels for the CPU.
#include <vector>

#include "op_helpers.h"
#include "roi_align.h"
#include "roi_align_op.h"
#include "roi_shapes.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectRoiAlign")
    .Input("features: T")
    .Input("boxes: float")
    .Input("box_indices: int32")
    .Input("sizes: int32")
    .Output("output: T")
    .Attr("pooled_height: int >= 1")
    .Attr("pooled_width: int >= 1")
    .Attr("spatial_scale: float")
    .Attr("sampling_ratio: int")
    .Attr("aligned: bool")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle pooled;
      TF_RETURN_IF_ERROR(PooledShape(c, 1, 4, &pooled));
      c->set_output(0, pooled);
      return absl::OkStatus();
    })
    .Doc("ROIAlign of torchvision for features [B, H, W, C] and XYXY boxes [R, 4] in pixels of "
         "the input image: [R, pooled_height, pooled_width, C]. The features of image i end after "
         "sizes[i] rows and columns; with sizes [0, 2] they do not end before the map. On the "
         "GPU a region whose box_indices is out of range is zeros.");

REGISTER_OP("TfdetectRoiAlignLevels")
    .Input("features: N * T")
    .Input("sizes: N * int32")
    .Input("boxes: float")
    .Input("box_indices: int32")
    .Input("levels: int32")
    .Output("output: T")
    .Attr("pooled_height: int >= 1")
    .Attr("pooled_width: int >= 1")
    .Attr("spatial_scales: list(float)")
    .Attr("sampling_ratio: int")
    .Attr("aligned: bool")
    .Attr("N: int >= 1")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      int count;
      TF_RETURN_IF_ERROR(c->GetAttr("N", &count));
      ShapeHandle pooled, levels;
      DimensionHandle regions;
      TF_RETURN_IF_ERROR(PooledShape(c, 2 * count, 4, &pooled));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2 * count + 2), 1, &levels));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(pooled, 0), c->Dim(levels, 0), &regions));
      TF_RETURN_IF_ERROR(c->ReplaceDim(pooled, 0, regions, &pooled));
      c->set_output(0, pooled);
      return absl::OkStatus();
    })
    .Doc("TfdetectRoiAlign of each region from features[levels[r]], with spatial_scales and sizes "
         "of that level; all have the same number of channels.");

REGISTER_OP("TfdetectRoiAlignGrad")
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
    .Attr("aligned: bool")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle grad;
      DimensionHandle regions;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &grad));
      TF_RETURN_IF_ERROR(RegionCount(c, 1, 4, &regions));
      return SetGradientShape(c, 4);
    })
    .Doc("The gradient of TfdetectRoiAlign for the features, given that of its output.");

template <typename T>
class RoiAlignOp : public tensorflow::OpKernel {
 public:
  explicit RoiAlignOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiAlignAttributes(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &features = context->input(0), &boxes = context->input(1);
    const Tensor &box_indices = context->input(2), &sizes = context->input(3);
    RoiAlignShape shape = attributes_;
    OP_REQUIRES_OK(context,
                   CheckRoiAlign(features.shape(), boxes, box_indices, sizes, &shape));
    OP_REQUIRES_OK(context, CheckIndices(box_indices, shape.images));
    Tensor* output;
    const int64_t regions = boxes.dim_size(0);
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, RoiAlignOutputShape(shape, regions), &output));
    if (output->NumElements() == 0) return;
    const int64_t cost = shape.pooled_height * shape.pooled_width * shape.channels;
    ParallelFor(context, regions, cost, [&](int64_t begin, int64_t end) {
      RoiAlign(shape, Data<T>(features), boxes.flat<float>().data(),
               box_indices.flat<int32_t>().data(), begin, end, MutableData<T>(output));
    });
  }

 private:
  RoiAlignShape attributes_;
};

template <typename T>
class RoiAlignLevelsOp : public tensorflow::OpKernel {
 public:
  explicit RoiAlignLevelsOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiAlignBins(context, &attributes_));
    OP_REQUIRES_OK(context, context->GetAttr("N", &count_));
    OP_REQUIRES_OK(context, context->GetAttr("spatial_scales", &scales_));
    OP_REQUIRES(context, static_cast<int>(scales_.size()) == count_,
                tensorflow::errors::InvalidArgument("spatial_scales must have ", count_,
                                                    " elements, not ", scales_.size()));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &boxes = context->input(2 * count_), &levels = context->input(2 * count_ + 2);
    const Tensor& box_indices = context->input(2 * count_ + 1);
    std::vector<RoiAlignShape> shapes(count_, attributes_);
    for (int i = 0; i < count_; ++i) {
      shapes[i].spatial_scale = scales_[i];
      OP_REQUIRES_OK(context, CheckRoiAlign(context->input(i).shape(), boxes, box_indices,
                                            context->input(count_ + i), &shapes[i]));
      OP_REQUIRES(context, shapes[i].channels == shapes[0].channels,
                  tensorflow::errors::InvalidArgument("features must all have ",
                                                      shapes[0].channels, " channels, not ",
                                                      shapes[i].channels));
      OP_REQUIRES_OK(context, CheckIndices(box_indices, shapes[i].images));
    }
    const int64_t regions = boxes.dim_size(0);
    OP_REQUIRES_OK(context, CheckVector("levels", levels, regions));
    OP_REQUIRES_OK(context, CheckIndices(levels, count_));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, RoiAlignOutputShape(shapes[0], regions),
                                          &output));
    if (output->NumElements() == 0) return;
    const int64_t cost = shapes[0].pooled_height * shapes[0].pooled_width * shapes[0].channels;
    const int32_t* level = levels.flat<int32_t>().data();
    ParallelTasks(context, regions, cost, [&](int64_t region) {
      RoiAlign(shapes[level[region]], Data<T>(context->input(level[region])),
               boxes.flat<float>().data(), box_indices.flat<int32_t>().data(), region, region + 1,
               MutableData<T>(output));
    });
  }

 private:
  RoiAlignShape attributes_;
  int count_;
  std::vector<float> scales_;
};

template <typename T>
class RoiAlignGradOp : public tensorflow::OpKernel {
 public:
  explicit RoiAlignGradOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, ReadRoiAlignAttributes(context, &attributes_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &grad = context->input(0), &boxes = context->input(1);
    const Tensor &box_indices = context->input(2), &sizes = context->input(3);
    RoiAlignShape shape = attributes_;
    tensorflow::TensorShape feature_shape;
    OP_REQUIRES_OK(context, CheckRoiAlignGrad(context->input(4), grad, boxes, box_indices, sizes,
                                              &shape, &feature_shape));
    OP_REQUIRES_OK(context, CheckIndices(box_indices, shape.images));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, feature_shape, &output));
    if (output->NumElements() == 0) return;
    const int64_t regions = boxes.dim_size(0);
    RoiAlignGradient gradient(shape, boxes.flat<float>().data(),
                              box_indices.flat<int32_t>().data(), regions);
    ParallelFor(context, regions, 2000,
                [&](int64_t begin, int64_t end) { gradient.Sample(begin, end); });
    gradient.Distribute();
    const int64_t cost = 8 * shape.width * shape.channels;
    ParallelTasks(context, gradient.tasks(), cost, [&](int64_t task) {
      gradient.Run(task, Data<T>(grad), MutableData<T>(output));
    });
  }

 private:
  RoiAlignShape attributes_;
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiAlign").Device(tensorflow::DEVICE_CPU), RoiAlignOp);
TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiAlignLevels").Device(tensorflow::DEVICE_CPU),
                         RoiAlignLevelsOp);
TFDETECT_REGISTER_FLOATS(Name("TfdetectRoiAlignGrad").Device(tensorflow::DEVICE_CPU),
                         RoiAlignGradOp);

}  // namespace
}  // namespace tfdetect
