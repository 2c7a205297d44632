// TfdetectLayerNorm and TfdetectGelu: definitions, and kernels for the CPU.
#include "op_helpers.h"
#include "pointwise.h"
#include "scratch.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

REGISTER_OP("TfdetectLayerNorm")
    .Input("x: T")
    .Input("weight: float")
    .Input("bias: float")
    .Output("output: T")
    .Attr("epsilon: float")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc("x [..., C] with the mean and variance over C of each location taken out, times weight "
         "[C], plus bias [C].");

REGISTER_OP("TfdetectGelu")
    .Input("x: T")
    .Output("output: T")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc("x times the normal distribution function of x.");

template <typename T>
class LayerNormOp : public OpKernel {
 public:
  explicit LayerNormOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &weight = context->input(1), &bias = context->input(2);
    OP_REQUIRES_OK(context, CheckShape(x.dims() > 0, "x", "[..., C]", x));
    const int64_t channels = x.dim_size(x.dims() - 1);
    OP_REQUIRES_OK(context, CheckVector("weight", weight, channels));
    OP_REQUIRES_OK(context, CheckVector("bias", bias, channels));
    Tensor* output;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({0}, 0, x.shape(), &output));
    if (output->NumElements() == 0) return;
    const auto* from = Data<T>(x);
    auto* to = MutableData<T>(output);
    ParallelFor(context, x.NumElements() / channels, channels, [&](int64_t begin, int64_t end) {
      Scratch scratch(context, channels);
      LayerNorm(from + begin * channels, weight.flat<float>().data(), bias.flat<float>().data(),
                epsilon_, end - begin, channels, scratch.data(), to + begin * channels);
    });
  }

 private:
  float epsilon_;
};

template <typename T>
class GeluOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& x = context->input(0);
    Tensor* output;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({0}, 0, x.shape(), &output));
    const auto* from = Data<T>(x);
    auto* to = MutableData<T>(output);
    ParallelFor(context, x.NumElements(), 2, [&](int64_t begin, int64_t end) {
      GeluOf(from + begin, end - begin, to + begin);
    });
  }
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectLayerNorm").Device(tensorflow::DEVICE_CPU), LayerNormOp);
TFDETECT_REGISTER_FLOATS(Name("TfdetectGelu").Device(tensorflow::DEVICE_CPU), GeluOp);

}  // namespace
}  // namespace tfdetect
