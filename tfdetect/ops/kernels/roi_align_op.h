// What the CPU's and the GPU's kernels of ROIAlign read and check alike.
#ifndef TFDETECT_ROI_ALIGN_OP_H_
#define TFDETECT_ROI_ALIGN_OP_H_

#include "op_helpers.h"
#include "roi_align_axis.h"

namespace tfdetect {

// All but the scale.
inline absl::Status ReadRoiAlignBins(tensorflow::OpKernelConstruction* context,
                                     RoiAlignShape* shape) {
  *shape = RoiAlignShape();
  shape->aligned = true;  // rotated boxes always are
  TF_RETURN_IF_ERROR(context->GetAttr("pooled_height", &shape->pooled_height));
  TF_RETURN_IF_ERROR(context->GetAttr("pooled_width", &shape->pooled_width));
  TF_RETURN_IF_ERROR(context->GetAttr("sampling_ratio", &shape->sampling_ratio));
  if (context->HasAttr("aligned"))
    TF_RETURN_IF_ERROR(context->GetAttr("aligned", &shape->aligned));
  if (shape->sampling_ratio <= 1024) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("sampling_ratio must be at most 1024, not ",
                                             shape->sampling_ratio);
}

inline absl::Status ReadRoiAlignAttributes(tensorflow::OpKernelConstruction* context,
                                           RoiAlignShape* shape) {
  TF_RETURN_IF_ERROR(ReadRoiAlignBins(context, shape));
  return context->GetAttr("spatial_scale", &shape->spatial_scale);
}

// Fills in the features' shape and the images' sizes in them; boxes have so many numbers.
inline absl::Status CheckRoiAlign(const tensorflow::TensorShape& features,
                                  const tensorflow::Tensor& boxes,
                                  const tensorflow::Tensor& box_indices,
                                  const tensorflow::Tensor& sizes, RoiAlignShape* shape,
                                  int numbers = 4) {
  if (features.dims() != 4)
    return tensorflow::errors::InvalidArgument("features must have shape [B, H, W, C], not ",
                                               features.DebugString());
  TF_RETURN_IF_ERROR(CheckBoxes(boxes, numbers));
  TF_RETURN_IF_ERROR(CheckVector("box_indices", box_indices, boxes.dim_size(0)));
  shape->images = features.dim_size(0);
  shape->height = features.dim_size(1);
  shape->width = features.dim_size(2);
  shape->channels = features.dim_size(3);
  const bool whole = sizes.dims() == 2 && sizes.dim_size(0) == 0;
  TF_RETURN_IF_ERROR(CheckShape(
      sizes.dims() == 2 && sizes.dim_size(1) == 2 && (whole || sizes.dim_size(0) == shape->images),
      "sizes", "[B, 2] or [0, 2]", sizes));
  shape->sizes = whole ? nullptr : sizes.flat<int32_t>().data();
  // A pixel's number fits into 32 bits.
  const int64_t pixels = std::max<int64_t>(shape->height, 1) * std::max<int64_t>(shape->width, 1);
  if (pixels < std::numeric_limits<int32_t>::max())
    return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("features are too large: ", features.DebugString());
}

inline tensorflow::TensorShape RoiAlignOutputShape(const RoiAlignShape& shape, int64_t regions) {
  return tensorflow::TensorShape(
      {regions, shape.pooled_height, shape.pooled_width, shape.channels});
}

inline absl::Status CheckRoiAlignGrad(const tensorflow::Tensor& lengths,
                                      const tensorflow::Tensor& grad,
                                      const tensorflow::Tensor& boxes,
                                      const tensorflow::Tensor& box_indices,
                                      const tensorflow::Tensor& sizes, RoiAlignShape* shape,
                                      tensorflow::TensorShape* feature_shape, int numbers = 4) {
  TF_RETURN_IF_ERROR(CheckVector("feature_shape", lengths, 4));
  TF_RETURN_IF_ERROR(tensorflow::TensorShapeUtils::MakeShape(lengths.flat<int32_t>().data(), 4,
                                                             feature_shape));
  TF_RETURN_IF_ERROR(CheckRoiAlign(*feature_shape, boxes, box_indices, sizes, shape, numbers));
  if (grad.shape() == RoiAlignOutputShape(*shape, boxes.dim_size(0))) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument(
      "grad must have shape ", RoiAlignOutputShape(*shape, boxes.dim_size(0)).DebugString(),
      ", not ", grad.shape().DebugString());
}

}  // namespace tfdetect

#endif  // TFDETECT_ROI_ALIGN_OP_H_
