// What the CPU's and the GPU's kernels of TfdetectBoxIouRotated check alike.
#ifndef TFDETECT_BOX_IOU_ROTATED_OP_H_
#define TFDETECT_BOX_IOU_ROTATED_OP_H_

#include "op_helpers.h"

namespace tfdetect {

// Both inputs; allocates the output [N, M].
inline absl::Status PrepareBoxIouRotated(tensorflow::OpKernelContext* context,
                                         tensorflow::Tensor** output) {
  TF_RETURN_IF_ERROR(CheckBoxes(context->input(0), 5));
  TF_RETURN_IF_ERROR(CheckBoxes(context->input(1), 5));
  return context->allocate_output(
      0, {context->input(0).dim_size(0), context->input(1).dim_size(0)}, output);
}

}  // namespace tfdetect

#endif  // TFDETECT_BOX_IOU_ROTATED_OP_H_
