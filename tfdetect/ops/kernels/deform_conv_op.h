// What the CPU's and the GPU's kernels of deformable convolution read and check alike.
#ifndef TFDETECT_DEFORM_CONV_OP_H_
#define TFDETECT_DEFORM_CONV_OP_H_

#include "deform_conv.h"
#include "op_helpers.h"

namespace tfdetect {

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
  absl::Status Check(tensorflow::OpKernelContext* context, DeformConvShape* shape,
                     DeformConvInputs* inputs) const {
    const tensorflow::Tensor &x = context->input(0), &offset = context->input(1);
    const tensorflow::Tensor &mask = context->input(2), &weight = context->input(3);
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

  // Those of the four inputs.
  static absl::Status AllocateGradients(tensorflow::OpKernelContext* context,
                                        const DeformConvShape& shape, float* gradients[4]) {
    TF_RETURN_IF_ERROR(CheckGrid("grad", context->input(4), shape, shape.out_channels));
    for (int i = 0; i < 4; ++i) {
      tensorflow::Tensor* output;
      TF_RETURN_IF_ERROR(context->allocate_output(i, context->input(i).shape(), &output));
      gradients[i] = output->flat<float>().data();
    }
    return absl::OkStatus();
  }

 private:
  static absl::Status CheckGrid(const char* name, const tensorflow::Tensor& tensor,
                                const DeformConvShape& s, int64_t channels) {
    const tensorflow::TensorShape expected({s.images, s.out_height, s.out_width, channels});
    if (tensor.shape() == expected) return absl::OkStatus();
    return tensorflow::errors::InvalidArgument(name, " must have shape ", expected.DebugString(),
                                               ", not ", tensor.shape().DebugString());
  }

  int64_t Outputs(int64_t inputs, int64_t kernel) const {
    const int64_t reach = attributes_.dilation * (kernel - 1) + 1;
    return std::max<int64_t>(
        (inputs + 2 * attributes_.padding - reach + attributes_.stride) / attributes_.stride, 0);
  }

  DeformConvShape attributes_ = {};
};

}  // namespace tfdetect

#endif  // TFDETECT_DEFORM_CONV_OP_H_
