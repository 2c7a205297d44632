// TfdetectDeformConv and its gradient: definitions, and kernels for the CPU.
#include "deform_conv.h"
#include "op_helpers.h"

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

// The attributes, and the check of the inputs that both operators share.
class DeformConvBase : public tensorflow::OpKernel {
 public:
  explicit DeformConvBase(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("stride", &attributes_.stride));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &attributes_.padding));
    OP_REQUIRES_OK(context, context->GetAttr("dilation", &attributes_.dilation));
    OP_REQUIRES_OK(context, context->GetAttr("groups", &attributes_.groups));
    OP_REQUIRES_OK(context, context->GetAttr("deformable_groups", &attributes_.deformable_groups));
  }

 protected:
  absl::Status Check(OpKernelContext* context, DeformConvShape* shape,
                     DeformConvInputs* inputs) const {
    const Tensor &x = context->input(0), &offset = context->input(1);
    const Tensor &mask = context->input(2), &weight = context->input(3);
    TF_RETURN_IF_ERROR(CheckShape(x.dims() == 4, "x", "[B, H, W, Cin]", x));
    TF_RETURN_IF_ERROR(
        CheckShape(weight.dims() == 4, "weight", "[kh, kw, Cin / groups, Cout]", weight));
    DeformConvShape& s = *shape;
    s = attributes_;
    s.images = x.dim_size(0);
    s.height = x.dim_size(1);
    s.width = x.dim_size(2);
    s.channels = x.dim_size(3);
    s.kernel_height = weight.dim_size(0);
    s.kernel_width = weight.dim_size(1);
    s.out_channels = weight.dim_size(3);
    TF_RETURN_IF_ERROR(CheckShape(weight.NumElements() > 0, "weight", "without zeros", weight));
    if (s.channels != weight.dim_size(2) * s.groups || s.out_channels % s.groups != 0)
      return tensorflow::errors::InvalidArgument(
          "weight ", weight.shape().DebugString(), " with ", s.groups,
          " groups does not fit x ", x.shape().DebugString());
    if (s.channels % s.deformable_groups != 0)
      return tensorflow::errors::InvalidArgument(s.channels, " channels do not divide into ",
                                                 s.deformable_groups, " deformable groups");
    s.out_height = Outputs(s.height, s.kernel_height);
    s.out_width = Outputs(s.width, s.kernel_width);
    const int64_t taps = s.deformable_groups * s.kernel_size();
    TF_RETURN_IF_ERROR(CheckGrid("offset", offset, s, 2 * taps));
    const bool modulated = mask.NumElements() > 0;
    if (modulated) TF_RETURN_IF_ERROR(CheckGrid("mask", mask, s, taps));
    *inputs = {x.flat<float>().data(), offset.flat<float>().data(),
               modulated ? mask.flat<float>().data() : nullptr, weight.flat<float>().data()};
    return absl::OkStatus();
  }

  static absl::Status CheckGrid(const char* name, const Tensor& tensor, const DeformConvShape& s,
                                int64_t channels) {
    const tensorflow::TensorShape expected({s.images, s.out_height, s.out_width, channels});
    if (tensor.shape() == expected) return absl::OkStatus();
    return tensorflow::errors::InvalidArgument(name, " must have shape ", expected.DebugString(),
                                               ", not ", tensor.shape().DebugString());
  }

  // About the nanoseconds of one multiplication of the whole.
  static int64_t Cost(const DeformConvShape& s) {
    return s.positions() * s.kernel_size() * s.group_channels() * s.out_channels / 16;
  }

 private:
  int64_t Outputs(int64_t inputs, int64_t kernel) const {
    const int64_t reach = attributes_.dilation * (kernel - 1) + 1;
    return std::max<int64_t>(
        (inputs + 2 * attributes_.padding - reach + attributes_.stride) / attributes_.stride, 0);
  }

  DeformConvShape attributes_ = {};
};

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
    OP_REQUIRES_OK(context, CheckGrid("grad", context->input(4), shape, shape.out_channels));
    Tensor* outputs[4];
    float* gradients[4];
    for (int i = 0; i < 4; ++i) {
      OP_REQUIRES_OK(context, context->allocate_output(i, context->input(i).shape(), &outputs[i]));
      gradients[i] = outputs[i]->flat<float>().data();
    }
    const float* grad = context->input(4).flat<float>().data();
    const DeformConv convolution(shape, inputs);
    if (shape.positions() > 0) {
      const int64_t tasks = convolution.position_tasks();
      ParallelTasks(context, tasks, Cost(shape) / tasks, [&](int64_t task) {
        convolution.OffsetAndMaskGradient(task, grad, gradients[1],
                                          inputs.mask ? gradients[2] : nullptr);
      });
    }
    if (outputs[0]->NumElements() > 0) {
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
