// TfdetectBoxIouRotated: definition, and a kernel for the CPU.
#include "box_iou_rotated_op.h"

#include "box_iou_rotated.h"

namespace tfdetect {
namespace {

using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectBoxIouRotated")
    .Input("boxes1: float")
    .Input("boxes2: float")
    .Output("iou: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle boxes[2];
      for (int i = 0; i < 2; ++i) {
        DimensionHandle five;
        TF_RETURN_IF_ERROR(c->WithRank(c->input(i), 2, &boxes[i]));
        TF_RETURN_IF_ERROR(c->WithValue(c->Dim(boxes[i], 1), 5, &five));
      }
      c->set_output(0, c->Matrix(c->Dim(boxes[0], 0), c->Dim(boxes[1], 0)));
      return absl::OkStatus();
    })
    .Doc("Intersection over union [N, M] of rotated boxes [N, 5] and [M, 5] (x centre, y centre, "
         "width, height, angle in degrees, counter-clockwise). 0 for a box that is not finite.");

class BoxIouRotatedOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(tensorflow::OpKernelContext* context) override {
    const Tensor &boxes1 = context->input(0), &boxes2 = context->input(1);
    Tensor* output;
    OP_REQUIRES_OK(context, PrepareBoxIouRotated(context, &output));
    if (output->NumElements() == 0) return;
    const int64_t n = boxes1.dim_size(0), m = boxes2.dim_size(0);
    ParallelFor(context, m, 20 * n + 50, [&](int64_t begin, int64_t end) {
      BoxIouRotated(boxes1.flat<float>().data(), n, boxes2.flat<float>().data(), begin, end, m,
                    output->flat<float>().data());
    });
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectBoxIouRotated").Device(tensorflow::DEVICE_CPU),
                        BoxIouRotatedOp);

}  // namespace
}  // namespace tfdetect
