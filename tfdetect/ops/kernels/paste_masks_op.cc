// TfdetectPasteMasks: definition, and a kernel for the CPU.
#include "paste_masks_op.h"

#include "paste_masks.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectPasteMasks")
    .Input("masks: float")
    .Input("boxes: float")
    .Input("size: int32")
    .Output("output: bool")
    .Attr("threshold: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle masks, boxes, size, output;
      DimensionHandle n;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &masks));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &boxes));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(masks, 0), c->Dim(boxes, 0), &n));
      TF_RETURN_IF_ERROR(c->MakeShapeFromShapeTensor(2, &size));
      TF_RETURN_IF_ERROR(c->WithRank(size, 2, &size));
      TF_RETURN_IF_ERROR(c->Concatenate(c->Vector(n), size, &output));
      c->set_output(0, output);
      return absl::OkStatus();
    })
    .Doc("Detectron2's paste_masks_in_image: masks [N, M, M] and XYXY boxes [N, 4] in pixels of "
         "the output to [N, height, width], where the pasted mask is at least the threshold.");

class PasteMasksOp : public tensorflow::OpKernel {
 public:
  explicit PasteMasksOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("threshold", &threshold_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &masks = context->input(0), &boxes = context->input(1);
    tensorflow::TensorShape shape;
    OP_REQUIRES_OK(context, CheckPasteMasks(context, &shape));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    if (output->NumElements() == 0) return;
    const int64_t height = output->dim_size(1), width = output->dim_size(2);
    ParallelFor(context, masks.dim_size(0), height * width, [&](int64_t begin, int64_t end) {
      PasteMasks(masks.flat<float>().data(), boxes.flat<float>().data(), masks.dim_size(1), height,
                 width, threshold_, begin, end, output->flat<bool>().data());
    });
  }

 private:
  float threshold_;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectPasteMasks").Device(tensorflow::DEVICE_CPU), PasteMasksOp);

}  // namespace
}  // namespace tfdetect
