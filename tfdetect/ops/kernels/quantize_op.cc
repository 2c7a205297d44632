// float32 to uint8 on the CPU: TfdetectQuantize.
#include "op_helpers.h"
#include "quantize.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

REGISTER_OP("TfdetectQuantize")
    .Input("x: float")
    .Output("output: uint8")
    .Attr("inverse_scale: float")
    .Attr("zero_point: int >= 0")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc("x * inverse_scale, rounded (ties to even), plus zero_point, in [0, 255]; NaN becomes "
         "zero_point.");

class QuantizeOp : public OpKernel {
 public:
  explicit QuantizeOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("inverse_scale", &inverse_scale_));
    OP_REQUIRES_OK(context, context->GetAttr("zero_point", &zero_point_));
    OP_REQUIRES(context, zero_point_ <= 255,
                tensorflow::errors::InvalidArgument("zero points are at most 255, not ",
                                                    zero_point_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &output));
    const float* from = x.flat<float>().data();
    uint8_t* to = output->flat<uint8_t>().data();
    ParallelFor(context, x.NumElements(), 1, [&](int64_t begin, int64_t end) {
      Quantize(from + begin, end - begin, inverse_scale_, zero_point_, to + begin);
    });
  }

 private:
  float inverse_scale_;
  int zero_point_;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectQuantize").Device(tensorflow::DEVICE_CPU), QuantizeOp);

}  // namespace
}  // namespace tfdetect
