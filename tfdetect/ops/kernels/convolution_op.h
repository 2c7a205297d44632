// What the registrations of convolutions share: their shapes, and weights that are packed once.
#ifndef TFDETECT_CONVOLUTION_OP_H_
#define TFDETECT_CONVOLUTION_OP_H_

#include <memory>
#include <mutex>
#include <vector>

#include "convolution.h"
#include "op_helpers.h"
#include "winograd.h"

namespace tfdetect {

// The output's shape of a convolution of input 0, a `bias` of [Cout] being input `bias`; the
// attribute `dilation` may be missing.
inline absl::Status SetConvolutionShape(tensorflow::shape_inference::InferenceContext* c,
                                        int bias) {
  tensorflow::shape_inference::ShapeHandle x, outputs;
  int kernel_size, stride, padding, dilation;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(bias), 1, &outputs));
  TF_RETURN_IF_ERROR(c->GetAttr("kernel_size", &kernel_size));
  TF_RETURN_IF_ERROR(c->GetAttr("stride", &stride));
  TF_RETURN_IF_ERROR(c->GetAttr("padding", &padding));
  if (!c->GetAttr("dilation", &dilation).ok()) dilation = 1;
  tensorflow::shape_inference::DimensionHandle sides[2];
  for (int i = 0; i < 2; ++i) {
    const tensorflow::shape_inference::DimensionHandle side = c->Dim(x, 1 + i);
    sides[i] = c->UnknownDim();
    if (c->ValueKnown(side))
      sides[i] = c->MakeDim(
          ConvolutionOutputs(c->Value(side), kernel_size, stride, padding, dilation));
  }
  c->set_output(0, c->MakeShape({c->Dim(x, 0), sides[0], sides[1], c->Dim(outputs, 0)}));
  return absl::OkStatus();
}

// The output's shape of a 3 x 3 convolution of input 0, stride 1 and padding 1.
inline absl::Status SetWinogradShape(tensorflow::shape_inference::InferenceContext* c, int bias) {
  tensorflow::shape_inference::ShapeHandle x, outputs;
  TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
  TF_RETURN_IF_ERROR(c->WithRank(c->input(bias), 1, &outputs));
  c->set_output(0, c->MakeShape({c->Dim(x, 0), c->Dim(x, 1), c->Dim(x, 2), c->Dim(outputs, 0)}));
  return absl::OkStatus();
}

// Whether a residual is empty, of the output's shape, or of half its height and width.
inline absl::Status CheckResidual(const tensorflow::Tensor& residual,
                                  const tensorflow::TensorShape& shape) {
  const int64_t height = shape.dim_size(1), width = shape.dim_size(2);
  const tensorflow::TensorShape half({shape.dim_size(0), height / 2, width / 2, shape.dim_size(3)});
  const bool even = height % 2 == 0 && width % 2 == 0;
  const bool fits = residual.NumElements() == 0 || residual.shape() == shape ||
                    (even && residual.shape() == half);
  return CheckShape(fits, "residual", shape.DebugString().c_str(), residual);
}

inline absl::Status CheckWinograd(const WinogradShape& shape, const tensorflow::Tensor& sizes) {
  if (shape.channels % 8 != 0 || shape.out_channels % 8 != 0)
    return tensorflow::errors::InvalidArgument("channels must be multiples of 8: ", shape.channels,
                                               " and ", shape.out_channels);
  return CheckValidSizes(sizes, shape.images);
}

// What a kernel makes of its weight, once: weights are given as they are, so that a graph runs on
// every processor, and each kernel packs them as its own processor wants it.
//
// It refers to the tensor that it has packed. While it does, TensorFlow neither changes its values
// in place nor gives its memory to another: a tensor at the same address has the same values.
template <typename T>
class PackedOnce {
 public:
  // pack() returns a T of what `weight` holds. Safe on several threads; another weight does not
  // invalidate what earlier calls returned.
  template <typename Pack>
  std::shared_ptr<const T> Get(const tensorflow::Tensor& weight, const Pack& pack) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!packed_ || weight.data() != source_.data() || weight.shape() != source_.shape()) {
      packed_ = std::make_shared<const T>(pack());
      source_ = weight;
    }
    return packed_;
  }

 private:
  std::mutex mutex_;
  tensorflow::Tensor source_;
  std::shared_ptr<const T> packed_;
};

}  // namespace tfdetect

#endif  // TFDETECT_CONVOLUTION_OP_H_
