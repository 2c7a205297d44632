// Convolutions of uint8 by int8 on the CPU, exact in int32: TfdetectQuantizedConv.
#include <vector>

#include "convolution.h"
#include "convolution_op.h"
#include "instruction_set.h"
#include "op_helpers.h"
#include "quantize.h"
#include "quantized_matmul.h"
#include "quantized_winograd.h"
#include "scratch.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;

// Taps of all channels of a group: with so many, sums of 255 times -128 still fit into int32.
constexpr int64_t kMostProducts = INT32_MAX / (255 * 128);

REGISTER_OP("TfdetectQuantizedConv")
    .Input("x: uint8")
    .Input("weight: int8")
    .Input("multiplier: float")
    .Input("bias: float")
    .Input("sizes: int32")
    .Input("residual: R")
    .Output("output: T")
    .Attr("R: {float, uint8}")
    .Attr("T: {float, uint8}")
    .Attr("zero_point: int >= 0")
    .Attr("kernel_size: int >= 1")
    .Attr("stride: int >= 1")
    .Attr("padding: int >= 0")
    .Attr("groups: int >= 1")
    .Attr("dilation: int >= 1")
    .Attr("relu: bool")
    .Attr("residual_scale: float")
    .Attr("residual_zero_point: int >= 0")
    .Attr("inverse_scale: float")
    .Attr("output_zero_point: int >= 0")
    .SetShapeFn([](InferenceContext* c) { return SetConvolutionShape(c, 3); })
    .Doc("The sums of (x [B, H, W, Cin] - zero_point) * weight [k, k, Cin / groups, Cout], exact; "
         "times multiplier [Cout], plus bias [Cout], plus residual (of the output's shape, of half "
         "its height and width, upsampled 2x, or empty; where it is uint8, (residual - "
         "residual_zero_point) * residual_scale), with `relu` negative values to 0; if T is uint8, "
         "times inverse_scale, rounded, plus output_zero_point. Beyond sizes [B, 2] (or [0, 2]: "
         "nothing is beyond) and in the padding x is taken for zero_point.");

// What the products of one weight read.
struct QuantizedWeight {
  Tensor packed;                 // of Winograd's matrices, Pairs or Quads
  std::vector<int32_t> initial;  // of Quads: where the sums begin, [matrices, padded columns]
};

// How rows and weights are stored for products of pairs, and how those are called.
struct Pairs {
  typedef int16_t Row;
  typedef int16_t Weight;
  static constexpr auto kType = tensorflow::DT_INT16;
  static constexpr int64_t kPart = kPair, kPanelsAtOnce = 1;

  static void Read(const uint8_t* from, int64_t count, int32_t zero_point, Row* to) {
    Widen(from, count, zero_point, to);
  }
  static Row Nothing(int32_t) { return 0; }
  static void Pack(const int8_t* matrix, int64_t k, int64_t n, Weight* packed) {
    const std::vector<int16_t> wide(matrix, matrix + k * n);
    PackPairs(wide.data(), k, n, packed);
  }
  static void Multiply(const Row* a, int64_t a_stride, const Weight* packed, int64_t m, int64_t k,
                       int64_t panels, const int32_t*, int32_t* sums, int64_t sums_stride) {
    MultiplyPairs(a, a_stride, packed, m, k, panels, sums, sums_stride);
  }
};

// The same for quads, whose rows are as they are in x.
struct Quads {
  typedef uint8_t Row;
  typedef int8_t Weight;
  static constexpr auto kType = tensorflow::DT_INT8;
  static constexpr int64_t kPart = kQuad, kPanelsAtOnce = 2;

  static void Read(const uint8_t* from, int64_t count, int32_t, Row* to) {
    std::copy_n(from, count, to);
  }
  static Row Nothing(int32_t zero_point) { return static_cast<Row>(zero_point); }
  static constexpr auto Pack = PackQuads;
  static constexpr auto Multiply = MultiplyQuads;
};

class QuantizedConvOp : public OpKernel {
 public:
  explicit QuantizedConvOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("zero_point", &zero_point_));
    OP_REQUIRES_OK(context, context->GetAttr("kernel_size", &kernel_size_));
    OP_REQUIRES_OK(context, context->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(context, context->GetAttr("padding", &padding_));
    OP_REQUIRES_OK(context, context->GetAttr("groups", &groups_));
    OP_REQUIRES_OK(context, context->GetAttr("dilation", &dilation_));
    OP_REQUIRES_OK(context, context->GetAttr("relu", &epilogue_.relu));
    OP_REQUIRES_OK(context, context->GetAttr("residual_scale", &epilogue_.residual_scale));
    OP_REQUIRES_OK(context,
                   context->GetAttr("residual_zero_point", &epilogue_.residual_zero_point));
    OP_REQUIRES_OK(context, context->GetAttr("inverse_scale", &epilogue_.inverse_scale));
    OP_REQUIRES_OK(context, context->GetAttr("output_zero_point", &epilogue_.zero_point));
    for (int point : {zero_point_, epilogue_.residual_zero_point, epilogue_.zero_point})
      OP_REQUIRES(context, point <= 255,
                  tensorflow::errors::InvalidArgument("zero points are at most 255, not ", point));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, CheckInputs(context));
    const Tensor &x = context->input(0), &weight = context->input(1), &sizes = context->input(4);
    const Tensor& residual = context->input(5);
    const Grid grid(x.dim_size(1), x.dim_size(2), x.dim_size(3), kernel_size_, stride_, padding_,
                    dilation_);
    tensorflow::TensorShape shape;
    for (int64_t size : {x.dim_size(0), grid.out_height, grid.out_width, weight.dim_size(3)})
      OP_REQUIRES_OK(context, shape.AddDimWithStatus(size));
    OP_REQUIRES_OK(context, CheckResidual(residual, shape));
    SumsOutput output = epilogue_;
    output.channels = weight.dim_size(3);
    output.multiplier = context->input(2).flat<float>().data();
    output.bias = context->input(3).flat<float>().data();
    if (residual.NumElements() != 0) {
      if (residual.dtype() == tensorflow::DT_FLOAT)
        output.float_residual = residual.flat<float>().data();
      else
        output.uint8_residual = residual.flat<uint8_t>().data();
      if (residual.shape() != shape) output.upsampled_width = grid.out_width;
    }
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &result));
    if (result->NumElements() == 0) return;
    if (result->dtype() == tensorflow::DT_FLOAT)
      output.floats = result->flat<float>().data();
    else
      output.bytes = result->flat<uint8_t>().data();
    const int32_t* own = sizes.dim_size(0) ? sizes.flat<int32_t>().data() : nullptr;
    const auto packed = packed_.Get(weight, [&] { return Packed(weight); });
    if (UsesVnni())
      Direct<Quads>(context, grid, *packed, own, output);
    else if (UsesWinograd(weight))
      Winograd(context, *packed, own, output);
    else
      Direct<Pairs>(context, grid, *packed, own, output);
  }

 private:
  absl::Status CheckInputs(OpKernelContext* context) const {
    const Tensor &x = context->input(0), &weight = context->input(1), &sizes = context->input(4);
    TF_RETURN_IF_ERROR(CheckShape(x.dims() == 4, "x", "[B, H, W, Cin]", x));
    const bool fits = weight.dims() == 4 && weight.dim_size(0) == kernel_size_ &&
                      weight.dim_size(1) == kernel_size_ &&
                      weight.dim_size(2) * groups_ == x.dim_size(3) &&
                      weight.dim_size(3) % groups_ == 0;
    if (!fits)
      return tensorflow::errors::InvalidArgument(
          "weight ", weight.shape().DebugString(), " does not fit x ", x.shape().DebugString(),
          ", kernel size ", kernel_size_, " and ", groups_, " groups");
    const int64_t products = int64_t{kernel_size_} * kernel_size_ * weight.dim_size(2);
    if (products > kMostProducts)
      return tensorflow::errors::InvalidArgument(
          "sums of ", products, " products of 8 bits may exceed int32: at most ", kMostProducts);
    TF_RETURN_IF_ERROR(CheckVector("multiplier", context->input(2), weight.dim_size(3)));
    TF_RETURN_IF_ERROR(CheckVector("bias", context->input(3), weight.dim_size(3)));
    return CheckValidSizes(sizes, x.dim_size(0));
  }

  // VNNI multiplies four bytes where int16's instructions multiply two numbers, and Winograd's
  // products, which need int16, are 4 of 9.
  bool UsesWinograd(const Tensor& weight) const {
    return !UsesVnni() && kernel_size_ == 3 && stride_ == 1 && padding_ == 1 && groups_ == 1 &&
           dilation_ == 1 && CanUseQuantizedWinograd(weight.dim_size(2));
  }

  QuantizedWeight Packed(const Tensor& weight) const {
    if (UsesVnni()) return {PackedMatrices<Quads>(weight), Initial(weight)};
    if (!UsesWinograd(weight)) return {PackedMatrices<Pairs>(weight), {}};
    const int64_t channels = weight.dim_size(2), outputs = weight.dim_size(3);
    Tensor packed(tensorflow::DT_INT16, {QuantizedWinogradSize(channels, outputs)});
    QuantizedWinogradWeights(weight.flat<int8_t>().data(), channels, outputs,
                             packed.flat<int16_t>().data());
    return {packed, {}};
  }

  // A Tensor and not a std::vector, since it begins with a line of the cache.
  template <typename Form>
  Tensor PackedMatrices(const Tensor& weight) const {
    const int64_t taps = kernel_size_ * kernel_size_, outputs = weight.dim_size(3);
    const int64_t matrices = groups_ / MergedGroups(groups_, outputs);
    const int64_t depth = taps * weight.dim_size(2) * groups_ / matrices;
    const int64_t size = PackedSize(RoundUp(depth, Form::kPart), outputs / matrices);
    Tensor packed(Form::kType, {matrices * size});
    auto* to = packed.flat<typename Form::Weight>().data();
    ForMatrices(weight.flat<int8_t>().data(), taps, weight.dim_size(2), outputs, groups_,
                [&](int64_t m, const int8_t* matrix, int64_t rows, int64_t columns) {
                  Form::Pack(matrix, rows, columns, to + m * size);
                });
    return packed;
  }

  // What the zero point adds to each sum, negative, by column of the panels.
  std::vector<int32_t> Initial(const Tensor& weight) const {
    const auto rows = weight.flat_inner_dims<int8_t>();
    const int64_t outputs = rows.dimension(1), matrices = groups_ / MergedGroups(groups_, outputs);
    const int64_t columns = outputs / matrices, padded = Panels(columns) * kPanel;
    std::vector<int32_t> initial(matrices * padded);
    for (int64_t row = 0; row < rows.dimension(0); ++row) {
      for (int64_t j = 0; j < outputs; ++j)
        initial[j / columns * padded + j % columns] -= zero_point_ * rows(row, j);
    }
    return initial;
  }

  void Winograd(OpKernelContext* context, const QuantizedWeight& weight, const int32_t* sizes,
                const SumsOutput& output) const {
    const Tensor& x = context->input(0);
    const WinogradShape shape{x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3),
                              output.channels};
    const uint8_t* from = x.flat<uint8_t>().data();
    const int64_t cost =
        CostOfProducts(kWinogradProducts * shape.channels * shape.out_channels / 2);
    const int16_t* packed = weight.packed.flat<int16_t>().data();
    // So few that what a task writes between its steps stays in the second cache, or nearly.
    ParallelRows(context, shape.tiles(), 36, cost, [&](int64_t begin, int64_t end) {
      Scratch scratch(context, QuantizedWinogradScratch(shape, end - begin));
      QuantizedWinogradTiles(shape, from, zero_point_, packed, sizes, output, begin, end,
                             reinterpret_cast<int32_t*>(scratch.data()));
    });
  }

  template <typename Form>
  void Direct(OpKernelContext* context, const Grid& grid, const QuantizedWeight& weight,
              const int32_t* sizes, const SumsOutput& output) const {
    typedef typename Form::Row Row;
    typedef typename Form::Weight Weight;
    constexpr int64_t kColumns = Form::kPanelsAtOnce * kPanel;
    const int64_t out = output.channels, matrices = groups_ / MergedGroups(groups_, out);
    const int64_t columns = out / matrices, in = grid.channels / matrices;
    const int64_t depth = kernel_size_ * kernel_size_ * in;
    const int64_t padded = RoundUp(depth, Form::kPart);
    // Not a power of two, which would put all rows into few sets of the caches.
    const int64_t stride = padded + 64 / sizeof(Row);
    const int64_t rows = context->input(0).dim_size(0) * grid.out_height * grid.out_width;
    // What a task gathers stays in the second cache, unless that makes its rows too few.
    const int64_t most = std::clamp<int64_t>(98304 / stride / 12 * 12, 48, 192);
    const Weight* packed = weight.packed.template flat<Weight>().data();
    const int64_t cost = CostOfProducts(depth * out / 2);
    const uint8_t* x = context->input(0).flat<uint8_t>().data();
    const auto read = [this](const uint8_t* from, int64_t count, Row* to) {
      Form::Read(from, count, zero_point_, to);
    };
    ParallelRows(context, rows, most, cost, [&](int64_t begin, int64_t end) {
      const int64_t count = end - begin;
      Scratch gathered(context, (count * stride * sizeof(Row) + 3) / 4);
      Scratch totals(context, count * kColumns);
      Row* a = reinterpret_cast<Row*>(gathered.data());
      int32_t* sums = reinterpret_cast<int32_t*>(totals.data());
      std::vector<int64_t> residual_rows(output.upsampled_width ? count : 0);
      for (size_t i = 0; i < residual_rows.size(); ++i)
        residual_rows[i] = output.ResidualRow(begin + i);
      for (int64_t m = 0; m < matrices; ++m) {
        for (int64_t i = 0; i < count; ++i) {
          Row* end_of_row = grid.Gather(x, sizes, begin + i, m * in, in,
                                        Form::Nothing(zero_point_), read, a + i * stride);
          std::fill_n(end_of_row, padded - depth, Row{});
        }
        for (int64_t column = 0; column < columns; column += kColumns) {
          const int64_t panels = std::min(Form::kPanelsAtOnce, Panels(columns - column));
          const int64_t panel = m * Panels(columns) + column / kPanel;
          const int32_t* initial =
              weight.initial.empty() ? nullptr : &weight.initial[panel * kPanel];
          Form::Multiply(a, stride, packed + panel * padded * kPanel, count, depth, panels, initial,
                         sums, kColumns);
          FinishSums(output, sums, kColumns, begin, count, m * columns + column,
                     std::min(kColumns, columns - column),
                     residual_rows.empty() ? nullptr : residual_rows.data());
        }
      }
    });
  }

  int zero_point_, kernel_size_, stride_, padding_, groups_, dilation_;
  SumsOutput epilogue_;
  PackedOnce<QuantizedWeight> packed_;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectQuantizedConv").Device(tensorflow::DEVICE_CPU),
                        QuantizedConvOp);

}  // namespace
}  // namespace tfdetect
