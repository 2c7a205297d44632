// float32 convolutions on the CPU, with pre-packed weights:
// TfdetectPackWeights, TfdetectPackedConv and TfdetectWinogradConv.
#include <optional>
#include <vector>

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
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

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
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, bias;
      int kernel_size, stride, padding;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 1, &bias));
      TF_RETURN_IF_ERROR(c->GetAttr("kernel_size", &kernel_size));
      TF_RETURN_IF_ERROR(c->GetAttr("stride", &stride));
      TF_RETURN_IF_ERROR(c->GetAttr("padding", &padding));
      DimensionHandle sides[2];
      for (int i = 0; i < 2; ++i) {
        const DimensionHandle side = c->Dim(x, 1 + i);
        sides[i] = c->UnknownDim();
        if (c->ValueKnown(side))
          sides[i] = c->MakeDim(
              std::max<int64_t>(c->Value(side) + 2 * padding - kernel_size + stride, 0) / stride);
      }
      c->set_output(0, c->MakeShape({c->Dim(x, 0), sides[0], sides[1], c->Dim(bias, 0)}));
      return absl::OkStatus();
    })
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
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, bias;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 1, &bias));
      c->set_output(0, c->MakeShape({c->Dim(x, 0), c->Dim(x, 1), c->Dim(x, 2), c->Dim(bias, 0)}));
      return absl::OkStatus();
    })
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
    std::vector<float> matrix(rows * columns);
    for (int64_t m = 0; m < matrices; ++m) {
      std::fill(matrix.begin(), matrix.end(), 0.0f);
      for (int64_t row = 0; row < taps * merged * channels; ++row) {
        const int64_t tap = row / (merged * channels), group = row / channels % merged;
        const int64_t width = outputs / groups_, first = group * width;
        std::copy_n(from + (tap * channels + row % channels) * outputs + m * columns + first, width,
                    &matrix[row * columns + first]);
      }
      Pack(matrix.data(), columns, 1, rows, columns, to + m * PackedSize(rows, columns));
    }
  }

 private:
  bool winograd_;
  int groups_;
};

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
    Grid grid;
    grid.height = x.dim_size(1);
    grid.width = x.dim_size(2);
    grid.channels = x.dim_size(3);
    grid.out_height = Outputs(grid.height);
    grid.out_width = Outputs(grid.width);
    const int64_t out = bias.dim_size(0), matrices = packed.dim_size(0);
    const int64_t columns = out / matrices, in = grid.channels / matrices;
    const int64_t depth = kernel_size_ * kernel_size_ * in;
    OP_REQUIRES_OK(context, CheckOperands(context, matrices, depth, columns));
    OP_REQUIRES(context, in * matrices == grid.channels && columns * matrices == out,
                tensorflow::errors::InvalidArgument(matrices, " groups do not divide ",
                                                    grid.channels, " and ", out, " channels"));
    const tensorflow::TensorShape shape({x.dim_size(0), grid.out_height, grid.out_width, out});
    const tensorflow::TensorShape half_shape(
        {x.dim_size(0), grid.out_height / 2, grid.out_width / 2, out});
    const bool even = grid.out_height % 2 == 0 && grid.out_width % 2 == 0;
    const bool upsampled = even && residual.NumElements() != 0 && residual.shape() == half_shape;
    OP_REQUIRES_OK(context, CheckShape(residual.NumElements() == 0 || residual.shape() == shape ||
                                           upsampled,
                                       "residual", shape.DebugString().c_str(), residual));
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
      if (halves) CopyUpsampled(grid, halves, begin, end, out, to);
      for (int64_t m = 0; m < matrices; ++m) {
        const float* a = from + begin * in;
        if (!in_place) {
          for (int64_t row = begin; row < end; ++row)
            Gather(grid, from, row, m * in, in, gathered->data() + (row - begin) * depth);
          a = gathered->data();
        }
        const int64_t at = begin * out + m * columns;
        MatMul(a, depth, 1, weights + m * PackedSize(depth, columns), end - begin, depth, columns,
               {shift + m * columns, added ? added + at : nullptr, relu_, gelu_}, to + at, out);
      }
    });
  }

 private:
  struct Grid {
    int64_t height, width, channels, out_height, out_width;
  };

  int64_t Outputs(int64_t side) const {
    return std::max<int64_t>(side + 2 * padding_ - kernel_size_ + stride_, 0) / stride_;
  }

  // Rows [begin, end) of a map of half the height and width, upsampled 2x.
  static void CopyUpsampled(const Grid& grid, const float* halves, int64_t begin, int64_t end,
                          int64_t channels, float* to) {
    for (int64_t row = begin; row < end; ++row) {
      // Images do not matter to it: their heights are even.
      const int64_t y = row / grid.out_width / 2, x = row % grid.out_width / 2;
      std::copy_n(halves + (y * (grid.out_width / 2) + x) * channels, channels,
                  to + row * channels);
    }
  }

  // The channels [first, first + count) of an output's input window, one location after another.
  void Gather(const Grid& grid, const float* x, int64_t row, int64_t first, int64_t count,
              float* to) const {
    const int64_t line = row / grid.out_width, image = line / grid.out_height;
    const int64_t left = row % grid.out_width * stride_ - padding_;
    const int64_t top = line % grid.out_height * stride_ - padding_;
    const bool whole = count == grid.channels && left >= 0 && left + kernel_size_ <= grid.width;
    for (int64_t y = top; y < top + kernel_size_; ++y) {
      const float* locations = x + ((image * grid.height + y) * grid.width + left) * grid.channels;
      if (y < 0 || y >= grid.height) {
        to = std::fill_n(to, kernel_size_ * count, 0.0f);
      } else if (whole) {
        to = std::copy_n(locations, kernel_size_ * count, to);
      } else {
        for (int64_t i = 0; i < kernel_size_; ++i) {
          const bool inside = left + i >= 0 && left + i < grid.width;
          to = inside ? std::copy_n(locations + i * grid.channels + first, count, to)
                      : std::fill_n(to, count, 0.0f);
        }
      }
    }
  }

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
    OP_REQUIRES(context, shape.channels % 8 == 0 && shape.out_channels % 8 == 0,
                tensorflow::errors::InvalidArgument("channels must be multiples of 8: ",
                                                    shape.channels, " and ", shape.out_channels));
    OP_REQUIRES_OK(context, CheckShape(sizes.dims() == 2 && sizes.dim_size(1) == 2 &&
                                           (sizes.dim_size(0) == 0 ||
                                            sizes.dim_size(0) == shape.images),
                                       "sizes", "[B, 2] or [0, 2]", sizes));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, {shape.images, shape.height, shape.width,
                                                       shape.out_channels},
                                          &output));
    const float* from = x.flat<float>().data();
    const float* packed = context->input(1).flat<float>().data();
    const int32_t* own = sizes.dim_size(0) ? sizes.flat<int32_t>().data() : nullptr;
    float* to = output->flat<float>().data();
    const int64_t cost = CostOfProducts(kWinogradProducts * shape.channels * shape.out_channels);
    ParallelRows(context, shape.tiles(), 96, cost, [&](int64_t begin, int64_t end) {
      Scratch scratch(context, WinogradScratch(shape, end - begin));
      WinogradTiles(shape, from, packed, bias.flat<float>().data(), own, relu_, begin, end,
                    scratch.data(), to);
    });
  }

 private:
  bool relu_;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectPackWeights").Device(tensorflow::DEVICE_CPU), PackWeightsOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectPackedConv").Device(tensorflow::DEVICE_CPU), PackedConvOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectWinogradConv").Device(tensorflow::DEVICE_CPU),
                        WinogradConvOp);

}  // namespace
}  // namespace tfdetect
