// What the CPU's and the GPU's kernels of keypoint decoding check alike.
#ifndef TFDETECT_DECODE_KEYPOINTS_OP_H_
#define TFDETECT_DECODE_KEYPOINTS_OP_H_

#include "op_helpers.h"

namespace tfdetect {

// Heat maps and boxes; and the output, allocated. Without elements there is nothing to do.
inline absl::Status CheckDecodeKeypoints(tensorflow::OpKernelContext* context,
                                         tensorflow::Tensor** output) {
  const tensorflow::Tensor &heatmaps = context->input(0), &boxes = context->input(1);
  TF_RETURN_IF_ERROR(
      CheckShape(heatmaps.dims() == 4 && heatmaps.dim_size(1) == heatmaps.dim_size(2), "heatmaps",
                 "[N, S, S, K]", heatmaps));
  TF_RETURN_IF_ERROR(CheckBoxes(boxes));
  const int64_t n = heatmaps.dim_size(0);
  if (boxes.dim_size(0) != n)
    return tensorflow::errors::InvalidArgument("there are heatmaps of ", n, " boxes but ",
                                               boxes.dim_size(0), " boxes");
  TF_RETURN_IF_ERROR(context->allocate_output(0, {n, heatmaps.dim_size(3), 4}, output));
  if (heatmaps.dim_size(1) > 0 || (*output)->NumElements() == 0) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("heatmaps are empty: ",
                                             heatmaps.shape().DebugString());
}

}  // namespace tfdetect

#endif  // TFDETECT_DECODE_KEYPOINTS_OP_H_
