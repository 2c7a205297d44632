// What the CPU's and the GPU's kernels of the resize check alike.
#ifndef TFDETECT_RESIZE_OP_H_
#define TFDETECT_RESIZE_OP_H_

#include "op_helpers.h"

namespace tfdetect {

// The image and the size; and the output, allocated. Without elements there is nothing to do.
inline absl::Status CheckResize(tensorflow::OpKernelContext* context,
                                tensorflow::Tensor** output) {
  const tensorflow::Tensor &image = context->input(0), &size = context->input(1);
  TF_RETURN_IF_ERROR(CheckShape(image.dims() == 3, "image", "[H, W, C]", image));
  TF_RETURN_IF_ERROR(CheckSize(size));
  if (std::max(image.dim_size(0), image.dim_size(1)) >= 1 << 28)
    return tensorflow::errors::InvalidArgument("image is too large: ",
                                               image.shape().DebugString());
  const auto sizes = size.flat<int32_t>();
  TF_RETURN_IF_ERROR(context->allocate_output(0, {sizes(0), sizes(1), image.dim_size(2)}, output));
  if (image.NumElements() > 0 || (*output)->NumElements() == 0) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("image is empty: ", image.shape().DebugString());
}

}  // namespace tfdetect

#endif  // TFDETECT_RESIZE_OP_H_
