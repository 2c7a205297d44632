// What the CPU's and the GPU's kernels of NMS check alike.
#ifndef TFDETECT_NMS_OP_H_
#define TFDETECT_NMS_OP_H_

#include "op_helpers.h"

namespace tfdetect {

// Boxes of so many numbers, scores, group_ids and threshold.
inline absl::Status CheckNms(tensorflow::OpKernelContext* context, int numbers) {
  const tensorflow::Tensor &boxes = context->input(0), &threshold = context->input(3);
  TF_RETURN_IF_ERROR(CheckBoxes(boxes, numbers));
  const int64_t n = boxes.dim_size(0);
  TF_RETURN_IF_ERROR(CheckVector("scores", context->input(1), n));
  TF_RETURN_IF_ERROR(CheckVector("group_ids", context->input(2), n));
  TF_RETURN_IF_ERROR(CheckShape(threshold.dims() == 0, "iou_threshold", "[]", threshold));
  if (n < std::numeric_limits<int32_t>::max()) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("too many boxes: ", n);
}

}  // namespace tfdetect

#endif  // TFDETECT_NMS_OP_H_
