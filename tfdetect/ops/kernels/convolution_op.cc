// float32 convolutions on the CPU, with pre-packed weights:
// TfdetectPackWeights, TfdetectPackedConv and TfdetectWinogradConv.
#include <optional>
#include <vector>

#include "convolution.h"
#include "convolution_op.h"
#include "convolution_tasks.h"
#include "matmul.h"
#include "op_helpers.h"
#include "scratch.h"
#include "winograd.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;

REGISTER_OP("TfdetectPackWeights")
    .Input("weight: float")
    .Output("packed: float")
    .Attr("winograd: bool")
    .Attr("groups: int >= 1")
    .SetShapeFn([](InferenceContext* c) {
      c->set_output(0, c->MakeShape({c->UnknownDim(), c->UnknownDim(), c->UnknownDim(), kPanel}));
      return absl::OkStatus();
    })
    .Doc("The weight [k, k, Cin / groups, Cout] of a TfdetectPackedConv, or with `winograd` "
         "[3, 3, Cin, Cout] of a TfdetectWinogradConv, as that wants it.");

REGISTER_OP("TfdetectPackedConv")
    .Input("x: float")
    .Input("packed: float")
    .Input("bias: float")
    .Input("residual: float")
    .Output("output: float")
    .Attr("kernel_size: int >= 1")
    .Attr("stride: int >= 1")
    .Attr("padding: int >= 0")
    .Attr("relu: bool")
    .Attr("gelu: bool = false")
    .SetShapeFn([](InferenceContext* c) { return SetConvolutionShape(c, 2); })
    .Doc("A convolution of x [B, H, W, Cin], plus bias [Cout], plus residual (of the output's shape, "
         "of half its height and width, upsampled 2x, or empty), and with "
         "`relu` negative values to 0, or with `gelu` each x to x Phi(x).");

REGISTER_OP("TfdetectWinogradConv")
    .Input("x: float")
    .Input("packed: float")
    .Input("bias: float")
    .Input("sizes: int32")
    .Output("output: float")
    .Attr("relu: bool")
    .SetShapeFn([](InferenceContext* c) { return SetWinogradShape(c, 2); })
    .Doc("A 3 x 3 convolution of stride 1 and padding 1 of x [B, H, W, Cin], plus bias [Cout], and "
         "with `relu` negative values to 0. Beyond sizes [B, 2] (or [0, 2]: nothing is beyond) x "
         "is taken for 0.");

class PackWeightsOp : public OpKernel {
 public:
  explicit PackWeightsOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("winograd", &winograd_));
    OP_REQUIRES_OK(context, context->GetAttr("groups", &groups_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor& weight = context->input(0);
    const bool fits = weight.dims() == 4 && weight.dim_size(0) == weight.dim_size(1) &&
                      weight.dim_size(3) % groups_ == 0 &&
                      (!winograd_ || (weight.dim_size(0) == 3 && groups_ == 1));
    OP_REQUIRES_OK(context, CheckShape(fits, "weight", "[k, k, Cin / groups, Cout]", weight));
    const int64_t taps = weight.dim_size(0) * weight.dim_size(1);
    const int64_t channels = weight.dim_size(2), outputs = weight.dim_size(3);
    const int64_t merged = winograd_ ? 1 : MergedGroups(groups_, outputs);
    const int64_t matrices = winograd_ ? kWinogradProducts : groups_ / merged;
    const int64_t rows = winograd_ ? channels : taps * merged * channels;
    const int64_t columns = outputs / groups_ * merged;
    Tensor* packed;
    OP_REQUIRES_OK(context, context->allocate_output(
                                0, {matrices, Panels(columns), rows, kPanel}, &packed));
    const float* from = weight.flat<float>().data();
    float* to = packed->flat<float>().data();
    if (winograd_) return WinogradWeights(from, channels, outputs, to);
    ForMatrices(from, taps, channels, outputs, groups_,
                [&](int64_t m, const float* matrix, int64_t rows, int64_t columns) {
                  Pack(matrix, columns, 1, rows, columns, to + m * PackedSize(rows, columns));
                });
  }

 private:
  bool winograd_;
  int groups_;
};

REGISTER_OP("TfdetectWinogradConvBackpropFilter")
    .Input("x: float")
    .Input("gradient: float")
    .Output("output: float")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, gradient;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(1), 4, &gradient));
      c->set_output(0, c->MakeShape({3, 3, c->Dim(x, 3), c->Dim(gradient, 3)}));
      return absl::OkStatus();
    })
    .Doc("The gradient of the weight [3, 3, Cin, Cout] of a 3 x 3 convolution of stride 1 and "
         "padding 1 of x [B, H, W, Cin], given that of its output [B, H, W, Cout].");

// Whether packed has so many matrices of `rows` by `columns`.
absl::Status CheckOperands(OpKernelContext* context, int64_t matrices, int64_t rows,
                           int64_t columns) {
  const Tensor &x = context->input(0), &packed = context->input(1), &bias = context->input(2);
  const bool fits = packed.dims() == 4 && packed.dim_size(0) == matrices &&
                    packed.dim_size(1) == Panels(columns) && packed.dim_size(2) == rows &&
                    packed.dim_size(3) == kPanel;
  if (fits) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("packed ", packed.shape().DebugString(),
                                             " does not fit x ", x.shape().DebugString(),
                                             " and bias ", bias.shape().DebugString());
}

absl::Status CheckRanks(OpKernelContext* context) {
  const Tensor &x = context->input(0), &packed = context->input(1), &bias = context->input(2);
  TF_RETURN_IF_ERROR(CheckShape(x.dims() == 4, "x", "[B, H, W, Cin]", x));
  TF_RETURN_IF_ERROR(CheckShape(packed.dims() == 4 && packed.dim_size(0) > 0, "packed",
                                "[matrices, panels, rows, 16]", packed));
  return CheckShape(bias.dims() == 1, "bias", "[Cout]", bias);
}

class PackedConvOp : public OpKernel {
 public:
  explicit PackedConvOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("kernel_size", &kernel_size_));
    OP_REQUIRES_OK(context, context->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
    OP_REQUIRES_OK(context, context->GetAttr("gelu", &gelu_));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, CheckRanks(context));
    const Tensor &x = context->input(0), &packed = context->input(1), &bias = context->input(2);
    const Tensor& residual = context->input(3);
    const Grid grid(x.dim_size(1), x.dim_size(2), x.dim_size(3), kernel_size_, stride_, padding_);
    const int64_t out = bias.dim_size(0), matrices = packed.dim_size(0);
    const int64_t columns = out / matrices, in = grid.channels / matrices;
    const int64_t depth = kernel_size_ * kernel_size_ * in;
    OP_REQUIRES_OK(context, CheckOperands(context, matrices, depth, columns));
    OP_REQUIRES(context, in * matrices == grid.channels && columns * matrices == out,
                tensorflow::errors::InvalidArgument(matrices, " groups do not divide ",
                                                    grid.channels, " and ", out, " channels"));
    const tensorflow::TensorShape shape({x.dim_size(0), grid.out_height, grid.out_width, out});
    OP_REQUIRES_OK(context, CheckResidual(residual, shape));
    const bool upsampled = residual.NumElements() != 0 && residual.shape() != shape;
    Tensor* output;
    if (residual.NumElements() == 0 || upsampled ||
        !context->forward_input_to_output_with_shape(3, 0, shape, &output))
      OP_REQUIRES_OK(context, context->allocate_output(0, shape, &output));
    const float* from = x.flat<float>().data();
    const float* weights = packed.flat<float>().data();
    const float* shift = bias.flat<float>().data();
    const float* added = residual.NumElements() ? residual.flat<float>().data() : nullptr;
    const float* halves = upsampled ? added : nullptr;
    float* to = output->flat<float>().data();
    if (upsampled) added = to;  // where each task first upsamples the rows that it needs
    // Where the rows of x are those of the product, they are read in place.
    const bool in_place = kernel_size_ == 1 && stride_ == 1 && padding_ == 0 && matrices == 1;
    const int64_t rows = x.dim_size(0) * grid.out_height * grid.out_width;
    // What a task gathers, and what its groups read in turns, stays in the second cache, unless
    // that makes its rows too few.
    const int64_t row_floats = matrices > 1 ? 3 * grid.channels / 2 : depth;
    const int64_t most =
        in_place ? 192
                 : std::clamp<int64_t>(49152 / std::max<int64_t>(row_floats, 1) / 12 * 12,
                                       matrices > 1 ? 24 : 48, 192);
    ParallelRows(context, rows, most, CostOfProducts(depth * out), [&](int64_t begin, int64_t end) {
      std::optional<Scratch> gathered;
      if (!in_place) gathered.emplace(context, (end - begin) * depth);
      if (halves)
        grid.Upsample(halves, begin, end, out, [&](const float* values, int64_t row) {
          std::copy_n(values, out, to + row * out);
        });
      for (int64_t m = 0; m < matrices; ++m) {
        const float* a = from + begin * in;
        if (!in_place) {
          for (int64_t row = begin; row < end; ++row)
            grid.Gather(from, row, m * in, in, gathered->data() + (row - begin) * depth);
          a = gathered->data();
        }
        const int64_t at = begin * out + m * columns;
        MatMul(a, depth, 1, weights + m * PackedSize(depth, columns), end - begin, depth, columns,
               {shift + m * columns, added ? added + at : nullptr, relu_, gelu_}, to + at, out);
      }
    });
  }

 private:
  int kernel_size_, stride_, padding_;
  bool relu_, gelu_;
};

class WinogradConvOp : public OpKernel {
 public:
  explicit WinogradConvOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, CheckRanks(context));
    const Tensor &x = context->input(0), &bias = context->input(2), &sizes = context->input(3);
    const WinogradShape shape{x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3),
                              bias.dim_size(0)};
    OP_REQUIRES_OK(context, CheckOperands(context, kWinogradProducts, shape.channels,
                                          shape.out_channels));
    OP_REQUIRES_OK(context, CheckWinograd(shape, sizes));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, {shape.images, shape.height, shape.width,
                                                       shape.out_channels},
                                          &output));
    const float* from = x.flat<float>().data();
    const float* packed = context->input(1).flat<float>().data();
    const int32_t* own = sizes.dim_size(0) ? sizes.flat<int32_t>().data() : nullptr;
    float* to = output->flat<float>().data();
    const int64_t cost = CostOfProducts(kWinogradProducts * shape.channels * shape.out_channels);
    ParallelRows(context, shape.tiles(), 48, cost, [&](int64_t begin, int64_t end) {
      Scratch scratch(context, WinogradScratch(shape, end - begin));
      WinogradTiles(shape, from, packed, bias.flat<float>().data(), own, relu_, begin, end,
                    scratch.data(), to);
    });
  }

 private:
  bool relu_;
};

// Winograd's products for the weight (Lavin and Gray, 2016, section 5): sums over tiles where the
// convolution has sums over channels. The order of a sum does not depend on the number of threads.
class WinogradConvBackpropFilterOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &gradient = context->input(1);
    OP_REQUIRES_OK(context, CheckShape(x.dims() == 4, "x", "[B, H, W, Cin]", x));
    const bool fits = gradient.dims() == 4 && gradient.dim_size(0) == x.dim_size(0) &&
                      gradient.dim_size(1) == x.dim_size(1) &&
                      gradient.dim_size(2) == x.dim_size(2);
    OP_REQUIRES_OK(context, CheckShape(fits, "gradient", "[B, H, W, Cout]", gradient));
    const WinogradShape shape{x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3),
                              gradient.dim_size(3)};
    const int64_t in = shape.channels, out = shape.out_channels, size = in * out;
    OP_REQUIRES(context, in % 8 == 0 && out % kPanel == 0,
                tensorflow::errors::InvalidArgument("channels must be multiples of 8 and 16: ", in,
                                                    " and ", out));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, {3, 3, in, out}, &output));
    if (output->NumElements() == 0) return;
    const int64_t stride = WinogradInputStride(shape), tiles = shape.tiles();
    // Together about as much as the last cache holds.
    const int64_t most = std::clamp<int64_t>(262144 / (stride + out), 96, std::max<int64_t>(tiles, 96));
    Scratch sums(context, kWinogradProducts * size);
    Scratch input(context, kWinogradProducts * most * stride);
    Scratch upstream(context, kWinogradProducts * most * out);
    if (tiles == 0) std::fill_n(sums.data(), kWinogradProducts * size, 0.0f);
    for (int64_t first = 0; first < tiles; first += most) {
      const int64_t count = std::min(most, tiles - first);
      ParallelFor(context, count, 8 * (in + out), [&](int64_t begin, int64_t end) {
        WinogradGradientTiles(shape, x.flat<float>().data(), gradient.flat<float>().data(), first,
                              count, first + begin, first + end, input.data(), upstream.data());
      });
      const int64_t blocks = (in + kRowsOfTask - 1) / kRowsOfTask;
      const int64_t cost = CostOfProducts(count * kRowsOfTask * out);
      ParallelTasks(context, kWinogradProducts * blocks, cost, [&](int64_t task) {
        const int64_t k = task / blocks, row = task % blocks * kRowsOfTask;
        float* sum = sums.data() + k * size + row * out;
        MatMul(input.data() + k * count * stride + row, 1, stride,
               upstream.data() + k * count * out, std::min(kRowsOfTask, in - row), count, out,
               {nullptr, first == 0 ? nullptr : sum}, sum, out);
      });
    }
    ParallelFor(context, in, 4 * out, [&](int64_t begin, int64_t end) {
      WinogradGradientOfWeight(sums.data(), in, out, begin, end, output->flat<float>().data());
    });
  }

 private:
  static constexpr int64_t kRowsOfTask = 96;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectWinogradConvBackpropFilter").Device(tensorflow::DEVICE_CPU),
                        WinogradConvBackpropFilterOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectPackWeights").Device(tensorflow::DEVICE_CPU), PackWeightsOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectPackedConv").Device(tensorflow::DEVICE_CPU), PackedConvOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectWinogradConv").Device(tensorflow::DEVICE_CPU),
                        WinogradConvOp);

}  // namespace
}  // namespace tfdetect
