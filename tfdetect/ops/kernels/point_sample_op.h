// What the CPU's and the GPU's kernels of point sampling read and check alike.
#ifndef TFDETECT_POINT_SAMPLE_OP_H_
#define TFDETECT_POINT_SAMPLE_OP_H_

#include "op_helpers.h"
#include "point_sample_corners.h"

namespace tfdetect {

// Fills in the shape of the features and the points, and the maps' sizes.
inline absl::Status CheckPointSample(const tensorflow::TensorShape& features,
                                     const tensorflow::Tensor& points,
                                     const tensorflow::Tensor& map_indices,
                                     const tensorflow::Tensor& sizes, PointSampleShape* shape) {
  if (features.dims() != 4)
    return tensorflow::errors::InvalidArgument("features must have shape [B, H, W, C], not ",
                                               features.DebugString());
  TF_RETURN_IF_ERROR(
      CheckShape(points.dims() == 3 && points.dim_size(2) == 2, "points", "[R, P, 2]", points));
  TF_RETURN_IF_ERROR(CheckVector("map_indices", map_indices, points.dim_size(0)));
  const bool whole = sizes.dims() == 2 && sizes.dim_size(0) == 0;
  TF_RETURN_IF_ERROR(CheckShape(sizes.dims() == 2 && sizes.dim_size(1) == 2 &&
                                    (whole || sizes.dim_size(0) == features.dim_size(0)),
                                "sizes", "[B, 2] or [0, 2]", sizes));
  *shape = {features.dim_size(0), features.dim_size(1), features.dim_size(2),
            features.dim_size(3), points.dim_size(1),
            whole ? nullptr : sizes.flat<int32_t>().data()};
  if (std::max(shape->height, shape->width) < std::numeric_limits<int32_t>::max())
    return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("features are too large: ", features.DebugString());
}

inline tensorflow::TensorShape PointSampleOutputShape(const PointSampleShape& shape,
                                                      int64_t rows) {
  return tensorflow::TensorShape({rows, shape.points, shape.channels});
}

inline absl::Status CheckPointSampleGrad(const tensorflow::Tensor& lengths,
                                         const tensorflow::Tensor& grad,
                                         const tensorflow::Tensor& points,
                                         const tensorflow::Tensor& map_indices,
                                         const tensorflow::Tensor& sizes, PointSampleShape* shape,
                                         tensorflow::TensorShape* feature_shape) {
  TF_RETURN_IF_ERROR(CheckVector("feature_shape", lengths, 4));
  TF_RETURN_IF_ERROR(tensorflow::TensorShapeUtils::MakeShape(lengths.flat<int32_t>().data(), 4,
                                                             feature_shape));
  TF_RETURN_IF_ERROR(CheckPointSample(*feature_shape, points, map_indices, sizes, shape));
  return CheckShape(grad.shape() == PointSampleOutputShape(*shape, points.dim_size(0)), "grad",
                    "that of the samples", grad);
}

}  // namespace tfdetect

#endif  // TFDETECT_POINT_SAMPLE_OP_H_
