// What the CPU's and the GPU's kernels of mask pasting check alike.
#ifndef TFDETECT_PASTE_MASKS_OP_H_
#define TFDETECT_PASTE_MASKS_OP_H_

#include "op_helpers.h"

namespace tfdetect {

// Masks, boxes and size; and the shape of the output.
inline absl::Status CheckPasteMasks(tensorflow::OpKernelContext* context,
                                    tensorflow::TensorShape* shape) {
  const tensorflow::Tensor &masks = context->input(0), &boxes = context->input(1);
  const tensorflow::Tensor& size = context->input(2);
  TF_RETURN_IF_ERROR(CheckShape(masks.dims() == 3 && masks.dim_size(1) == masks.dim_size(2),
                                "masks", "[N, M, M]", masks));
  TF_RETURN_IF_ERROR(CheckBoxes(boxes));
  TF_RETURN_IF_ERROR(CheckSize(size));
  const int64_t n = masks.dim_size(0);
  if (boxes.dim_size(0) != n)
    return tensorflow::errors::InvalidArgument("there are ", n, " masks but ", boxes.dim_size(0),
                                               " boxes");
  const auto sizes = size.flat<int32_t>();
  *shape = tensorflow::TensorShape({n, sizes(0), sizes(1)});
  return absl::OkStatus();
}

}  // namespace tfdetect

#endif  // TFDETECT_PASTE_MASKS_OP_H_
