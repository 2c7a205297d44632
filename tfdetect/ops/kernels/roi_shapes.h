// Shape inference that ROIAlign, its rotated form and ROIPool share.
#ifndef TFDETECT_ROI_SHAPES_H_
#define TFDETECT_ROI_SHAPES_H_

#include "op_helpers.h"

namespace tfdetect {

// R of the inputs boxes [R, numbers] and, after it, box_indices [R].
inline absl::Status RegionCount(tensorflow::shape_inference::InferenceContext* c, int boxes,
                                int numbers, tensorflow::shape_inference::DimensionHandle* count) {
  tensorflow::shape_inference::ShapeHandle shape, indices;
  tensorflow::shape_inference::DimensionHandle last;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(boxes), 2, &shape));
  TF_RETURN_IF_ERROR(c->WithValue(c->Dim(shape, 1), numbers, &last));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(boxes + 1), 1, &indices));
  return c->Merge(c->Dim(shape, 0), c->Dim(indices, 0), count);
}

// [R, pooled_height, pooled_width, C] of features [B, H, W, C], the first input.
inline absl::Status PooledShape(tensorflow::shape_inference::InferenceContext* c, int boxes,
                                int numbers, tensorflow::shape_inference::ShapeHandle* pooled) {
  tensorflow::shape_inference::ShapeHandle features;
  tensorflow::shape_inference::DimensionHandle count;
  int height, width;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &features));
  TF_RETURN_IF_ERROR(RegionCount(c, boxes, numbers, &count));
  TF_RETURN_IF_ERROR(c->GetAttr("pooled_height", &height));
  TF_RETURN_IF_ERROR(c->GetAttr("pooled_width", &width));
  *pooled = c->MakeShape({count, height, width, c->Dim(features, 3)});
  return absl::OkStatus();
}

}  // namespace tfdetect

#endif  // TFDETECT_ROI_SHAPES_H_
