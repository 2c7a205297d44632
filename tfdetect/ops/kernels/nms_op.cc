// TfdetectNms and TfdetectNmsRotated: definitions, and kernels for the CPU.
#include "nms_op.h"

#include "nms.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

template <int kNumbers>
absl::Status NmsShape(InferenceContext* c) {
  ShapeHandle boxes, vector, scalar;
  DimensionHandle numbers, n;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 2, &boxes));
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(boxes, 1), kNumbers, &numbers));
  n = c->Dim(boxes, 0);
  for (int i = 1; i <= 2; ++i) {
    TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 1, &vector));
    TF_RETURN_IF_ERROR(c->Merge(n, c->Dim(vector, 0), &n));
  }
  TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 0, &scalar));
  c->set_output(0, c->Vector(n));
  return absl::OkStatus();
}

REGISTER_OP("TfdetectNms")
    .Input("boxes: float")
    .Input("scores: float")
    .Input("group_ids: int32")
    .Input("iou_threshold: double")
    .Output("keep: bool")
    .SetShapeFn(NmsShape<4>)
    .Doc("Which XYXY boxes [N, 4] no better kept box of their group overlaps by an IoU above the "
         "threshold, as torchvision's nms on the CPU; equal scores go by the index. False for a "
         "negative group_ids, a NaN score and a box that is not finite.");

REGISTER_OP("TfdetectNmsRotated")
    .Input("boxes: float")
    .Input("scores: float")
    .Input("group_ids: int32")
    .Input("iou_threshold: double")
    .Output("keep: bool")
    .SetShapeFn(NmsShape<5>)
    .Doc("TfdetectNms of rotated boxes [N, 5], where an IoU of the threshold itself suppresses.");

template <int kNumbers>
class NmsOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &boxes = context->input(0), &scores = context->input(1);
    const Tensor &group_ids = context->input(2), &threshold = context->input(3);
    OP_REQUIRES_OK(context, CheckNms(context, kNumbers));
    const int64_t n = boxes.dim_size(0);
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, {n}, &output));
    bool* keep = output->flat<bool>().data();
    std::fill_n(keep, n, false);
    const float* coordinates = boxes.flat<float>().data();
    const NmsOrder order = OrderForNms(coordinates, kNumbers, scores.flat<float>().data(),
                                       group_ids.flat<int32_t>().data(), n);
    const int64_t groups = static_cast<int64_t>(order.groups.size());
    const int64_t cost = groups ? n * n / groups / groups : 0;
    ParallelFor(context, groups, cost, [&](int64_t begin, int64_t end) {
      const auto suppress = kNumbers == 5 ? SuppressRotatedGroups : SuppressGroups;
      suppress(order, coordinates, threshold.scalar<double>()(), begin, end, keep);
    });
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectNms").Device(tensorflow::DEVICE_CPU), NmsOp<4>);
REGISTER_KERNEL_BUILDER(Name("TfdetectNmsRotated").Device(tensorflow::DEVICE_CPU), NmsOp<5>);

}  // namespace
}  // namespace tfdetect
