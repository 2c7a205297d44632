// TfdetectDeformConv and its gradient: definitions, and kernels for the CPU.
#include "deform_conv_op.h"


namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectDeformConv")
    .Input("x: float")
    .Input("offset: float")
    .Input("mask: float")
    .Input("weight: float")
    .Output("output: float")
    .Attr("stride: int >= 1")
    .Attr("padding: int >= 0")
    .Attr("dilation: int >= 1")
    .Attr("groups: int >= 1")
    .Attr("deformable_groups: int >= 1")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, offset, weight;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 4, &offset));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 4, &weight));
      c->set_output(0, c->MakeShape({c->Dim(x, 0), c->Dim(offset, 1), c->Dim(offset, 2),
                                     c->Dim(weight, 3)}));
      return absl::OkStatus();
    })
    .Doc("torchvision's deform_conv2d without a bias: x [B, H, W, Cin], offset "
         "[B, h, w, G * 2 * kh * kw], mask [B, h, w, G * kh * kw] or empty, weight "
         "[kh, kw, Cin / groups, Cout] to [B, h, w, Cout].");

REGISTER_OP("TfdetectDeformConvGrad")
    .Input("x: float")
    .Input("offset: float")
    .Input("mask: float")
    .Input("weight: float")
    .Input("grad: float")
    .Output("x_grad: float")
    .Output("offset_grad: float")
    .Output("mask_grad: float")
    .Output("weight_grad: float")
    .Attr("stride: int >= 1")
    .Attr("padding: int >= 0")
    .Attr("dilation: int >= 1")
    .Attr("groups: int >= 1")
    .Attr("deformable_groups: int >= 1")
    .SetShapeFn([](InferenceContext* c) {
      for (int i = 0; i < 4; ++i) c->set_output(i, c->input(i));
      return absl::OkStatus();
    })
    .Doc("The gradients of TfdetectDeformConv for its inputs, given that of its output.");

// About the nanoseconds of one multiplication of the whole.
int64_t Cost(const DeformConvShape& s) {
  return s.positions() * s.kernel_size() * s.group_channels() * s.out_channels / 16;
}

class DeformConvOp : public DeformConvBase {
 public:
  using DeformConvBase::DeformConvBase;

  void Compute(OpKernelContext* context) override {
    DeformConvShape shape;
    DeformConvInputs inputs;
    OP_REQUIRES_OK(context, Check(context, &shape, &inputs));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, {shape.images, shape.out_height,
                                                       shape.out_width, shape.out_channels},
                                          &output));
    if (output->NumElements() == 0) return;
    const DeformConv convolution(shape, inputs);
    const int64_t tasks = convolution.position_tasks();
    ParallelTasks(context, tasks, Cost(shape) / tasks, [&](int64_t task) {
      convolution.Forward(task, output->flat<float>().data());
    });
  }
};

class DeformConvGradOp : public DeformConvBase {
 public:
  using DeformConvBase::DeformConvBase;

  void Compute(OpKernelContext* context) override {
    DeformConvShape shape;
    DeformConvInputs inputs;
    OP_REQUIRES_OK(context, Check(context, &shape, &inputs));
    float* gradients[4];
    OP_REQUIRES_OK(context, AllocateGradients(context, shape, gradients));
    const float* grad = context->input(4).flat<float>().data();
    const DeformConv convolution(shape, inputs);
    if (shape.positions() > 0) {
      const int64_t tasks = convolution.position_tasks();
      ParallelTasks(context, tasks, Cost(shape) / tasks, [&](int64_t task) {
        convolution.OffsetAndMaskGradient(task, grad, gradients[1],
                                          inputs.mask ? gradients[2] : nullptr);
      });
    }
    if (context->input(0).NumElements() > 0) {
      const int64_t tasks = convolution.input_tasks();
      ParallelTasks(context, tasks, Cost(shape) / tasks, [&](int64_t task) {
        convolution.InputGradient(task, grad, gradients[0]);
      });
    }
    const int64_t tasks = convolution.weight_tasks();
    ParallelTasks(context, tasks, Cost(shape) / tasks, [&](int64_t task) {
      convolution.WeightGradient(task, grad, gradients[3]);
    });
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectDeformConv").Device(tensorflow::DEVICE_CPU), DeformConvOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectDeformConvGrad").Device(tensorflow::DEVICE_CPU),
                        DeformConvGradOp);

}  // namespace
}  // namespace tfdetect
