// What the registrations share: checks of inputs, and work spread over TensorFlow's threads.
#ifndef TFDETECT_OP_HELPERS_H_
#define TFDETECT_OP_HELPERS_H_

#include <algorithm>
#include <cstdint>
#include <limits>

#include "half.h"
#include "tensorflow/core/framework/common_shape_fns.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/lib/core/errors.h"
#include "tensorflow/core/lib/core/threadpool.h"

namespace tfdetect {

// Calls function(begin, end) on TensorFlow's threads until [0, total) is covered; `cost` is about
// the nanoseconds of one unit.
template <typename Function>
void ParallelFor(tensorflow::OpKernelContext* context, int64_t total, int64_t cost,
                 const Function& function) {
  if (total == 0) return;
  context->device()->tensorflow_cpu_worker_threads()->workers->ParallelFor(
      total, std::max<int64_t>(cost, 1), function);
}

// The same for single tasks.
template <typename Function>
void ParallelTasks(tensorflow::OpKernelContext* context, int64_t total, int64_t cost,
                   const Function& function) {
  ParallelFor(context, total, cost, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) function(task);
  });
}

inline absl::Status CheckShape(bool correct, const char* name, const char* expected,
                               const tensorflow::Tensor& tensor) {
  if (correct) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument(name, " must have shape ", expected, ", not ",
                                             tensor.shape().DebugString());
}

// Boxes of so many numbers: 4, or 5 of rotated ones.
inline absl::Status CheckBoxes(const tensorflow::Tensor& boxes, int numbers = 4) {
  return CheckShape(boxes.dims() == 2 && boxes.dim_size(1) == numbers, "boxes",
                    numbers == 5 ? "[N, 5]" : "[N, 4]", boxes);
}

// The valid (height, width) of each image, or none: everything is valid.
inline absl::Status CheckValidSizes(const tensorflow::Tensor& sizes, int64_t images) {
  const bool fits = sizes.dims() == 2 && sizes.dim_size(1) == 2 &&
                    (sizes.dim_size(0) == 0 || sizes.dim_size(0) == images);
  return CheckShape(fits, "sizes", "[B, 2] or [0, 2]", sizes);
}

// A vector of `length` elements.
inline absl::Status CheckVector(const char* name, const tensorflow::Tensor& tensor,
                                int64_t length) {
  if (tensor.dims() == 1 && tensor.dim_size(0) == length) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument(name, " must have shape [", length, "], not ",
                                             tensor.shape().DebugString());
}

inline absl::Status CheckIndices(const tensorflow::Tensor& indices, int64_t limit) {
  const auto values = indices.flat<int32_t>();
  for (int64_t i = 0; i < values.size(); ++i) {
    if (values(i) < 0 || values(i) >= limit)
      return tensorflow::errors::InvalidArgument("box_indices[", i, "] is ", values(i),
                                                 ", but there are ", limit, " images");
  }
  return absl::OkStatus();
}

// A [height, width] tensor of sizes that may be zero but not negative.
inline absl::Status CheckSize(const tensorflow::Tensor& size) {
  TF_RETURN_IF_ERROR(CheckVector("size", size, 2));
  const auto values = size.flat<int32_t>();
  if (values(0) >= 0 && values(1) >= 0) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("size must not be negative: [", values(0), ", ",
                                             values(1), "]");
}

// The element type that the TensorFlow-free files use for one of TensorFlow's.
template <typename T>
struct Element {
  typedef T Type;
};
template <>
struct Element<Eigen::half> {
  typedef Half Type;
};
template <>
struct Element<Eigen::bfloat16> {
  typedef BFloat16 Type;
};

template <typename T>
const typename Element<T>::Type* Data(const tensorflow::Tensor& tensor) {
  return reinterpret_cast<const typename Element<T>::Type*>(tensor.flat<T>().data());
}
template <typename T>
typename Element<T>::Type* MutableData(tensorflow::Tensor* tensor) {
  return reinterpret_cast<typename Element<T>::Type*>(tensor->flat<T>().data());
}

// Registers kernels of an operator, KERNEL<T>, for each type of its attribute T. BUILDER begins with
// Name("...") to the letter: TensorFlow's macro reads it.
#define TFDETECT_REGISTER_FLOATS(BUILDER, KERNEL)                                         \
  REGISTER_KERNEL_BUILDER(BUILDER.TypeConstraint<float>("T"), KERNEL<float>);             \
  REGISTER_KERNEL_BUILDER(BUILDER.TypeConstraint<Eigen::half>("T"), KERNEL<Eigen::half>); \
  REGISTER_KERNEL_BUILDER(BUILDER.TypeConstraint<Eigen::bfloat16>("T"), KERNEL<Eigen::bfloat16>)

// The output [B, H, W, C] of a gradient for features, whose shape is the input feature_shape.
inline absl::Status SetGradientShape(tensorflow::shape_inference::InferenceContext* c,
                                     int feature_shape) {
  tensorflow::shape_inference::ShapeHandle features;
  TF_RETURN_IF_ERROR(c->MakeShapeFromShapeTensor(feature_shape, &features));
  TF_RETURN_IF_ERROR(c->WithRank(features, 4, &features));
  c->set_output(0, features);
  return absl::OkStatus();
}

}  // namespace tfdetect

#endif  // TFDETECT_OP_HELPERS_H_
