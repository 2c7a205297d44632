// What the CPU's and the GPU's kernels of ROIPool read and check alike.
#ifndef TFDETECT_ROI_POOL_OP_H_
#define TFDETECT_ROI_POOL_OP_H_

#include "op_helpers.h"
#include "roi_pool_axis.h"

namespace tfdetect {

inline absl::Status ReadRoiPoolAttributes(tensorflow::OpKernelConstruction* context,
                                          RoiPoolShape* shape) {
  *shape = RoiPoolShape();
  TF_RETURN_IF_ERROR(context->GetAttr("pooled_height", &shape->pooled_height));
  TF_RETURN_IF_ERROR(context->GetAttr("pooled_width", &shape->pooled_width));
  return context->GetAttr("spatial_scale", &shape->spatial_scale);
}

inline absl::Status ReadRoiPoolFeatures(const tensorflow::TensorShape& features,
                                        RoiPoolShape* shape) {
  if (features.dims() != 4)
    return tensorflow::errors::InvalidArgument("features must have shape [B, H, W, C], not ",
                                               features.DebugString());
  shape->images = features.dim_size(0);
  shape->height = features.dim_size(1);
  shape->width = features.dim_size(2);
  shape->channels = features.dim_size(3);
  // Pixels are numbered.
  if (shape->height * shape->width < std::numeric_limits<int32_t>::max()) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("features are too large: ", features.DebugString());
}

// Fills in the features' shape and the images' sizes in them.
inline absl::Status CheckRoiPool(const tensorflow::TensorShape& features,
                                 const tensorflow::Tensor& boxes,
                                 const tensorflow::Tensor& box_indices,
                                 const tensorflow::Tensor& sizes, RoiPoolShape* shape) {
  TF_RETURN_IF_ERROR(ReadRoiPoolFeatures(features, shape));
  TF_RETURN_IF_ERROR(CheckBoxes(boxes));
  TF_RETURN_IF_ERROR(CheckVector("box_indices", box_indices, boxes.dim_size(0)));
  const bool whole = sizes.dims() == 2 && sizes.dim_size(0) == 0;
  TF_RETURN_IF_ERROR(CheckShape(
      sizes.dims() == 2 && sizes.dim_size(1) == 2 && (whole || sizes.dim_size(0) == shape->images),
      "sizes", "[B, 2] or [0, 2]", sizes));
  shape->sizes = whole ? nullptr : sizes.flat<int32_t>().data();
  return absl::OkStatus();
}

inline tensorflow::TensorShape RoiPoolOutputShape(const RoiPoolShape& shape, int64_t regions) {
  return tensorflow::TensorShape(
      {regions, shape.pooled_height, shape.pooled_width, shape.channels});
}

inline absl::Status CheckRoiPoolGrad(const tensorflow::Tensor& lengths,
                                     const tensorflow::Tensor& grad,
                                     const tensorflow::Tensor& argmax,
                                     const tensorflow::Tensor& box_indices, RoiPoolShape* shape,
                                     tensorflow::TensorShape* feature_shape) {
  *shape = RoiPoolShape();
  TF_RETURN_IF_ERROR(CheckVector("feature_shape", lengths, 4));
  TF_RETURN_IF_ERROR(tensorflow::TensorShapeUtils::MakeShape(lengths.flat<int32_t>().data(), 4,
                                                             feature_shape));
  TF_RETURN_IF_ERROR(ReadRoiPoolFeatures(*feature_shape, shape));
  TF_RETURN_IF_ERROR(CheckShape(grad.dims() == 4 && grad.dim_size(3) == shape->channels, "grad",
                                "[R, ph, pw, C]", grad));
  TF_RETURN_IF_ERROR(
      CheckShape(argmax.shape() == grad.shape(), "argmax", "that of grad", argmax));
  TF_RETURN_IF_ERROR(CheckVector("box_indices", box_indices, grad.dim_size(0)));
  shape->pooled_height = static_cast<int32_t>(grad.dim_size(1));
  shape->pooled_width = static_cast<int32_t>(grad.dim_size(2));
  return absl::OkStatus();
}

}  // namespace tfdetect

#endif  // TFDETECT_ROI_POOL_OP_H_
