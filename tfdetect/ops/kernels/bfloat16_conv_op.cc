// bfloat16 convolutions on the CPU: TfdetectBfloat16Conv and TfdetectBfloat16WinogradConv.
//
// Where the processor multiplies pairs of bfloat16 numbers they do; elsewhere what a task multiplies
// is widened to float32 first, which costs little beside the products. Sums are float32.
#include <optional>
#include <vector>

#include "convolution.h"
#include "convolution_op.h"
#include "convolution_tasks.h"
#include "matmul_bfloat16.h"
#include "op_helpers.h"
#include "pointwise.h"
#include "scratch.h"
#include "winograd.h"

namespace tfdetect {
namespace {

using Eigen::bfloat16;
using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;

REGISTER_OP("TfdetectBfloat16Conv")
    .Input("x: bfloat16")
    .Input("weight: bfloat16")
    .Input("bias: float")
    .Input("residual: bfloat16")
    .Output("output: bfloat16")
    .Attr("kernel_size: int >= 1")
    .Attr("stride: int >= 1")
    .Attr("padding: int >= 0")
    .Attr("groups: int >= 1")
    .Attr("relu: bool")
    .Attr("gelu: bool = false")
    .SetShapeFn([](InferenceContext* c) { return SetConvolutionShape(c, 2); })
    .Doc("A convolution of x [B, H, W, Cin] with weight [k, k, Cin / groups, Cout], plus bias, "
         "residual and activation as TfdetectPackedConv's, rounded once.");

REGISTER_OP("TfdetectBfloat16WinogradConv")
    .Input("x: bfloat16")
    .Input("weight: bfloat16")
    .Input("bias: float")
    .Input("sizes: int32")
    .Output("output: bfloat16")
    .Attr("relu: bool")
    .SetShapeFn([](InferenceContext* c) { return SetWinogradShape(c, 2); })
    .Doc("A 3 x 3 convolution as TfdetectWinogradConv, with weight [3, 3, Cin, Cout].");

// The weight's values as what is multiplied has them.
std::vector<float> Values(const Tensor& weight, float) {
  std::vector<float> values(weight.NumElements());
  Widen(Data<bfloat16>(weight), values.size(), values.data());
  return values;
}
std::vector<BFloat16> Values(const Tensor& weight, BFloat16) {
  const BFloat16* from = Data<bfloat16>(weight);
  return {from, from + weight.NumElements()};
}

// Rows of what is multiplied: of float32, what Widen makes of them.
const float* Rows(const BFloat16* from, int64_t count, float* widened) {
  Widen(from, count, widened);
  return widened;
}
const BFloat16* Rows(const BFloat16* from, int64_t, BFloat16*) { return from; }

absl::Status CheckOperands(OpKernelContext* context, int64_t groups) {
  const Tensor &x = context->input(0), &weight = context->input(1), &bias = context->input(2);
  TF_RETURN_IF_ERROR(CheckShape(x.dims() == 4, "x", "[B, H, W, Cin]", x));
  TF_RETURN_IF_ERROR(CheckShape(bias.dims() == 1, "bias", "[Cout]", bias));
  const bool fits = weight.dims() == 4 && weight.dim_size(0) == weight.dim_size(1) &&
                    weight.dim_size(2) * groups == x.dim_size(3) &&
                    weight.dim_size(3) == bias.dim_size(0) && weight.dim_size(3) % groups == 0;
  if (fits) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument(
      "weight ", weight.shape().DebugString(), " in ", groups, " groups does not fit x ",
      x.shape().DebugString(), " and bias ", bias.shape().DebugString());
}

class Bfloat16ConvOp : public OpKernel {
 public:
  explicit Bfloat16ConvOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("kernel_size", &kernel_size_));
    OP_REQUIRES_OK(context, context->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
    OP_REQUIRES_OK(context, context->GetAttr("groups", &groups_));
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
    OP_REQUIRES_OK(context, context->GetAttr("gelu", &gelu_));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, CheckOperands(context, groups_));
    const Tensor &x = context->input(0), &weight = context->input(1), &bias = context->input(2);
    const Tensor& residual = context->input(3);
    OP_REQUIRES_OK(context, CheckShape(weight.dim_size(0) == kernel_size_, "weight",
                                       "[kernel_size, kernel_size, Cin / groups, Cout]", weight));
    const Grid grid(x.dim_size(1), x.dim_size(2), x.dim_size(3), kernel_size_, stride_, padding_);
    const tensorflow::TensorShape shape(
        {x.dim_size(0), grid.out_height, grid.out_width, bias.dim_size(0)});
    OP_REQUIRES_OK(context, CheckResidual(residual, shape));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    if (HasBfloat16Products()) {
      Convolve(context, grid, &packed_pairs_, output);
    } else {
      Convolve(context, grid, &packed_, output);
    }
  }

 private:
  template <typename Operand>
  void Convolve(OpKernelContext* context, const Grid& grid,
                PackedOnce<std::vector<Operand>>* packed_once, Tensor* output) {
    const Tensor &x = context->input(0), &weight = context->input(1), &bias = context->input(2);
    const Tensor& residual = context->input(3);
    const int64_t out = bias.dim_size(0), taps = kernel_size_ * kernel_size_;
    const int64_t matrices = groups_ / MergedGroups(groups_, out);
    const int64_t in = grid.channels / matrices, columns = out / matrices;
    const bool in_pairs = sizeof(Operand) == sizeof(BFloat16);
    const int64_t depth = in_pairs ? (taps * in + 1) / 2 * 2 : taps * in;
    const auto packed = packed_once->Get(weight, [&] {
      std::vector<Operand> panels(matrices * PackedSize(depth, columns));
      ForMatrices(Values(weight, Operand{}).data(), taps, weight.dim_size(2), out, groups_,
                  [&](int64_t m, const Operand* matrix, int64_t rows, int64_t columns) {
                    PackOperand(matrix, columns, rows, columns,
                                panels.data() + m * PackedSize(depth, columns));
                  });
      return panels;
    });
    const BFloat16* from = Data<bfloat16>(x);
    const float* shift = bias.flat<float>().data();
    const BFloat16* added = residual.NumElements() ? Data<bfloat16>(residual) : nullptr;
    const bool upsampled = added && residual.shape() != output->shape();
    BFloat16* to = MutableData<bfloat16>(output);
    // Where the rows of x are those of the product, they are read in place.
    const bool in_place = kernel_size_ == 1 && stride_ == 1 && padding_ == 0 && matrices == 1 &&
                          depth == in;
    const int64_t rows = x.dim_size(0) * grid.out_height * grid.out_width;
    // What a task gathers and its sums stay in the second cache, unless that makes its rows few.
    const int64_t most =
        std::clamp<int64_t>((in_place ? 131072 / out : 65536 / (depth + out)) / 12 * 12, 48, 192);
    ParallelRows(context, rows, most, CostOfProducts(depth * out), [&](int64_t begin, int64_t end) {
      const int64_t count = end - begin;
      Scratch sums(context, count * out);
      std::optional<Scratch> gathered, widened;
      if (!in_place) gathered.emplace(context, (count * depth + 1) / 2);
      if (!in_pairs) widened.emplace(context, count * depth);
      if (upsampled) {
        grid.Upsample(added, begin, end, out, [&](const BFloat16* values, int64_t row) {
          Widen(values, out, sums.data() + (row - begin) * out);
        });
      } else if (added) {
        Widen(added + begin * out, count * out, sums.data());
      }
      for (int64_t m = 0; m < matrices; ++m) {
        const BFloat16* window = from + begin * in;
        if (!in_place) {
          BFloat16* next = reinterpret_cast<BFloat16*>(gathered->data());
          window = next;
          for (int64_t row = begin; row < end; ++row) {
            next = grid.Gather(from, row, m * in, in, next);
            if (depth > taps * in) *next++ = BFloat16{0};
          }
        }
        const Operand* a = Rows(window, count * depth,
                                widened ? reinterpret_cast<Operand*>(widened->data()) : nullptr);
        float* sum = sums.data() + m * columns;
        const Epilogue epilogue{shift + m * columns, added ? sum : nullptr, relu_};
        MatMulOperands(a, depth, packed->data() + m * PackedSize(depth, columns), count, depth,
                       columns, epilogue, sum, out);
      }
      if (gelu_) GeluOf(sums.data(), count * out, sums.data());
      Narrow(sums.data(), count * out, to + begin * out);
    });
  }

  int kernel_size_, stride_, padding_, groups_;
  bool relu_, gelu_;
  PackedOnce<std::vector<float>> packed_;
  PackedOnce<std::vector<BFloat16>> packed_pairs_;
};

class Bfloat16WinogradConvOp : public OpKernel {
 public:
  explicit Bfloat16WinogradConvOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, CheckOperands(context, 1));
    const Tensor &x = context->input(0), &weight = context->input(1), &bias = context->input(2);
    OP_REQUIRES_OK(context, CheckShape(weight.dim_size(0) == 3, "weight", "[3, 3, Cin, Cout]",
                                       weight));
    const WinogradShape shape{x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3),
                              bias.dim_size(0)};
    OP_REQUIRES_OK(context, CheckWinograd(shape, context->input(3)));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, {shape.images, shape.height, shape.width,
                                                         shape.out_channels},
                                                     &output));
    if (HasBfloat16Products()) {
      Convolve(context, shape, &packed_pairs_, output);
    } else {
      Convolve(context, shape, &packed_, output);
    }
  }

 private:
  template <typename Operand>
  void Convolve(OpKernelContext* context, const WinogradShape& shape,
                PackedOnce<std::vector<Operand>>* packed_once, Tensor* output) {
    const Tensor &weight = context->input(1), &bias = context->input(2), &sizes = context->input(3);
    const auto packed = packed_once->Get(weight, [&] {
      std::vector<Operand> panels(kWinogradProducts *
                                  PackedSize(shape.channels, shape.out_channels));
      WinogradWeights(Values(weight, 0.0f).data(), shape.channels, shape.out_channels,
                      panels.data());
      return panels;
    });
    const BFloat16* from = Data<bfloat16>(context->input(0));
    const int32_t* own = sizes.dim_size(0) ? sizes.flat<int32_t>().data() : nullptr;
    BFloat16* to = MutableData<bfloat16>(output);
    const int64_t cost = CostOfProducts(kWinogradProducts * shape.channels * shape.out_channels);
    ParallelRows(context, shape.tiles(), 48, cost, [&](int64_t begin, int64_t end) {
      Scratch scratch(context, WinogradScratch(shape, end - begin));
      WinogradTiles(shape, from, packed->data(), bias.flat<float>().data(), own, relu_, begin, end,
                    scratch.data(), to);
    });
  }

  bool relu_;
  PackedOnce<std::vector<float>> packed_;
  PackedOnce<std::vector<BFloat16>> packed_pairs_;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectBfloat16Conv").Device(tensorflow::DEVICE_CPU),
                        Bfloat16ConvOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectBfloat16WinogradConv").Device(tensorflow::DEVICE_CPU),
                        Bfloat16WinogradConvOp);

}  // namespace
}  // namespace tfdetect
