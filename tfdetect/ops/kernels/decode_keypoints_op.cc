// TfdetectDecodeKeypoints: definition, and a kernel for the CPU.
#include "decode_keypoints_op.h"

#include "decode_keypoints.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectDecodeKeypoints")
    .Input("heatmaps: float")
    .Input("boxes: float")
    .Output("output: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle heatmaps, boxes;
      DimensionHandle n;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &heatmaps));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 2, &boxes));
      TF_RETURN_IF_ERROR(c->Merge(c->Dim(heatmaps, 0), c->Dim(boxes, 0), &n));
      c->set_output(0, c->MakeShape({n, c->Dim(heatmaps, 3), 4}));
      return absl::OkStatus();
    })
    .Doc("Detectron2's heatmaps_to_keypoints: heat maps [N, S, S, K] and XYXY boxes [N, 4] to "
         "[N, K, 4] with columns x, y, logit, score. A side above 16384 pixels is resized to that "
         "many.");

class DecodeKeypointsOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &heatmaps = context->input(0), &boxes = context->input(1);
    Tensor* output;
    OP_REQUIRES_OK(context, CheckDecodeKeypoints(context, &output));
    if (output->NumElements() == 0) return;
    const int64_t n = heatmaps.dim_size(0), side = heatmaps.dim_size(1);
    const int64_t keypoints = heatmaps.dim_size(3);
    ParallelFor(context, n * keypoints, 100000, [&](int64_t begin, int64_t end) {
      DecodeKeypoints(heatmaps.flat<float>().data(), boxes.flat<float>().data(), side, keypoints,
                      begin, end, output->flat<float>().data());
    });
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectDecodeKeypoints").Device(tensorflow::DEVICE_CPU),
                        DecodeKeypointsOp);

}  // namespace
}  // namespace tfdetect
