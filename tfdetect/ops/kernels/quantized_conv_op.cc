// Convolutions of uint8 by int8 on the CPU, exact in int32: TfdetectQuantizedConv.
#include <memory>
#include <mutex>
#include <vector>

#include "convolution_tasks.h"
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
using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// Of the taps of all channels of a group, with which no sum of products of 255 by -128 exceeds int32.
constexpr int64_t kMostProducts = INT32_MAX / (255 * 128);

// How many outputs a side has.
inline int64_t QuantizedOutputs(int64_t side, int64_t kernel_size, int64_t stride, int64_t padding,
                                int64_t dilation) {
  const int64_t reach = dilation * (kernel_size - 1) + 1;
  return std::max<int64_t>(side + 2 * padding - reach + stride, 0) / stride;
}

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
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, bias;
      int kernel_size, stride, padding, dilation;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(3), 1, &bias));
      TF_RETURN_IF_ERROR(c->GetAttr("kernel_size", &kernel_size));
      TF_RETURN_IF_ERROR(c->GetAttr("stride", &stride));
      TF_RETURN_IF_ERROR(c->GetAttr("padding", &padding));
      TF_RETURN_IF_ERROR(c->GetAttr("dilation", &dilation));
      DimensionHandle sides[2];
      for (int i = 0; i < 2; ++i) {
        const DimensionHandle side = c->Dim(x, 1 + i);
        sides[i] = c->UnknownDim();
        if (c->ValueKnown(side))
          sides[i] = c->MakeDim(
              QuantizedOutputs(c->Value(side), kernel_size, stride, padding, dilation));
      }
      c->set_output(0, c->MakeShape({c->Dim(x, 0), sides[0], sides[1], c->Dim(bias, 0)}));
      return absl::OkStatus();
    })
    .Doc("The sums of (x [B, H, W, Cin] - zero_point) * weight [k, k, Cin / groups, Cout], exact; "
         "times multiplier [Cout], plus bias [Cout], plus residual (of the output's shape, of half "
         "its height and width, upsampled 2x, or empty; where it is uint8, (residual - "
         "residual_zero_point) * residual_scale), with `relu` negative values to 0; if T is uint8, "
         "times inverse_scale, rounded, plus output_zero_point. Beyond sizes [B, 2] (or [0, 2]: "
         "nothing is beyond) and in the padding x is taken for zero_point.");

// What the products read, made of one weight, to which a reference is kept: while there is one,
// TensorFlow neither changes the weight's buffer nor uses it again, so that equal pointers mean equal
// weights.
struct QuantizedWeight {
  Tensor weight;
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
  static void Pack(const std::vector<int8_t>& matrix, int64_t k, int64_t n, Weight* packed) {
    const std::vector<int16_t> wide(matrix.begin(), matrix.end());
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
  static void Pack(const std::vector<int8_t>& matrix, int64_t k, int64_t n, Weight* packed) {
    PackQuads(matrix.data(), k, n, packed);
  }
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
    Grid grid;
    grid.images = x.dim_size(0);
    grid.height = x.dim_size(1);
    grid.width = x.dim_size(2);
    grid.channels = x.dim_size(3);
    grid.out_height = Outputs(grid.height);
    grid.out_width = Outputs(grid.width);
    grid.out_channels = weight.dim_size(3);
    tensorflow::TensorShape shape;
    for (int64_t size : {grid.images, grid.out_height, grid.out_width, grid.out_channels})
      OP_REQUIRES_OK(context, shape.AddDimWithStatus(size));
    SumsOutput output = epilogue_;
    output.channels = grid.out_channels;
    output.multiplier = context->input(2).flat<float>().data();
    output.bias = context->input(3).flat<float>().data();
    OP_REQUIRES_OK(context, TakeResidual(residual, shape, &output));
    Tensor* result;
    OP_REQUIRES_OK(context, context->allocate_output(0, shape, &result));
    if (result->NumElements() == 0) return;
    if (result->dtype() == tensorflow::DT_FLOAT)
      output.floats = result->flat<float>().data();
    else
      output.bytes = result->flat<uint8_t>().data();
    const int32_t* own = sizes.dim_size(0) ? sizes.flat<int32_t>().data() : nullptr;
    const std::shared_ptr<const QuantizedWeight> packed = Packed(weight);
    const uint8_t* from = x.flat<uint8_t>().data();
    if (UsesVnni())
      Direct<Quads>(context, grid, from, *packed, own, output);
    else if (UsesWinograd(weight))
      Winograd(context, grid, from, *packed, own, output);
    else
      Direct<Pairs>(context, grid, from, *packed, own, output);
  }

 private:
  struct Grid {
    int64_t images, height, width, channels, out_height, out_width, out_channels;
  };

  int64_t Outputs(int64_t side) const {
    return QuantizedOutputs(side, kernel_size_, stride_, padding_, dilation_);
  }

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
    const int64_t products = kernel_size_ * kernel_size_ * weight.dim_size(2);
    if (products > kMostProducts)
      return tensorflow::errors::InvalidArgument(
          "sums of ", products, " products of 8 bits may exceed int32: at most ", kMostProducts);
    TF_RETURN_IF_ERROR(CheckVector("multiplier", context->input(2), weight.dim_size(3)));
    TF_RETURN_IF_ERROR(CheckVector("bias", context->input(3), weight.dim_size(3)));
    return CheckShape(sizes.dims() == 2 && sizes.dim_size(1) == 2 &&
                          (sizes.dim_size(0) == 0 || sizes.dim_size(0) == x.dim_size(0)),
                      "sizes", "[B, 2] or [0, 2]", sizes);
  }

  static absl::Status TakeResidual(const Tensor& residual, const tensorflow::TensorShape& shape,
                                   SumsOutput* output) {
    if (residual.NumElements() == 0) return absl::OkStatus();
    if (residual.shape() != shape) {
      const bool even = shape.dim_size(1) % 2 == 0 && shape.dim_size(2) % 2 == 0;
      tensorflow::TensorShape half = shape;
      half.set_dim(1, shape.dim_size(1) / 2);
      half.set_dim(2, shape.dim_size(2) / 2);
      TF_RETURN_IF_ERROR(CheckShape(even && residual.shape() == half, "residual",
                                    shape.DebugString().c_str(), residual));
      output->upsampled_width = shape.dim_size(2);
    }
    if (residual.dtype() == tensorflow::DT_FLOAT)
      output->float_residual = residual.flat<float>().data();
    else
      output->uint8_residual = residual.flat<uint8_t>().data();
    return absl::OkStatus();
  }

  // VNNI's direct products are faster than what Winograd's leave of those in int16.
  bool UsesWinograd(const Tensor& weight) const {
    return !UsesVnni() && kernel_size_ == 3 && stride_ == 1 && padding_ == 1 && groups_ == 1 && dilation_ == 1 &&
           CanUseQuantizedWinograd(weight.dim_size(2));
  }

  // The weight as it is read, from the last call if that had the same.
  std::shared_ptr<const QuantizedWeight> Packed(const Tensor& weight) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!packed_ || packed_->weight.data() != weight.data() ||
        packed_->weight.shape() != weight.shape()) {
      auto made = std::make_shared<QuantizedWeight>();
      made->weight = weight;
      if (UsesVnni()) {
        PackMatrices<Quads>(made.get());
        SetInitial(made.get());
      } else if (UsesWinograd(weight)) {
        const int64_t size = QuantizedWinogradSize(weight.dim_size(2), weight.dim_size(3));
        made->packed = Tensor(tensorflow::DT_INT16, {size});
        QuantizedWinogradWeights(weight.flat<int8_t>().data(), weight.dim_size(2),
                                 weight.dim_size(3), made->packed.flat<int16_t>().data());
      } else {
        PackMatrices<Pairs>(made.get());
      }
      packed_ = made;
    }
    return packed_;
  }

  // Groups that are multiplied together have zeros between them.
  template <typename Form>
  void PackMatrices(QuantizedWeight* made) const {
    const Tensor& weight = made->weight;
    const int64_t taps = kernel_size_ * kernel_size_, channels = weight.dim_size(2);
    const int64_t outputs = weight.dim_size(3), width = outputs / groups_;
    const int64_t merged = MergedGroups(groups_, outputs), matrices = groups_ / merged;
    const int64_t rows = taps * merged * channels, columns = width * merged;
    const int64_t size = PackedSize(RoundUp(rows, Form::kPart), columns);
    made->packed = Tensor(Form::kType, {matrices * size});
    const int8_t* from = weight.flat<int8_t>().data();
    auto* to = made->packed.template flat<typename Form::Weight>().data();
    std::vector<int8_t> matrix(rows * columns);
    for (int64_t m = 0; m < matrices; ++m) {
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t tap = row / (merged * channels), first = row / channels % merged * width;
        std::copy_n(from + (tap * channels + row % channels) * outputs + m * columns + first, width,
                    &matrix[row * columns + first]);
      }
      Form::Pack(matrix, rows, columns, to + m * size);
    }
  }

  // What the zero point adds to each sum, negative, by column of the panels.
  void SetInitial(QuantizedWeight* made) const {
    const auto weight = made->weight.flat_inner_dims<int8_t>();
    const int64_t outputs = weight.dimension(1);
    const int64_t columns = outputs / groups_ * MergedGroups(groups_, outputs);
    const int64_t padded = Panels(columns) * kPanel;
    made->initial.assign(outputs / columns * padded, 0);
    for (int64_t row = 0; row < weight.dimension(0); ++row) {
      for (int64_t j = 0; j < outputs; ++j)
        made->initial[j / columns * padded + j % columns] -= zero_point_ * weight(row, j);
    }
  }

  void Winograd(OpKernelContext* context, const Grid& grid, const uint8_t* x,
                const QuantizedWeight& weight, const int32_t* sizes,
                const SumsOutput& output) const {
    const WinogradShape shape{grid.images, grid.height, grid.width, grid.channels,
                              grid.out_channels};
    const int64_t cost = CostOfProducts(kWinogradProducts * shape.channels * shape.out_channels / 2);
    const int16_t* packed = weight.packed.flat<int16_t>().data();
    // So few that what a task writes between its steps stays in the second cache, or nearly.
    ParallelRows(context, shape.tiles(), 36, cost, [&](int64_t begin, int64_t end) {
      Scratch scratch(context, QuantizedWinogradScratch(shape, end - begin));
      QuantizedWinogradTiles(shape, x, zero_point_, packed, sizes, output, begin, end,
                             reinterpret_cast<int32_t*>(scratch.data()));
    });
  }

  template <typename Form>
  void Direct(OpKernelContext* context, const Grid& grid, const uint8_t* x,
              const QuantizedWeight& weight, const int32_t* sizes, const SumsOutput& output) const {
    typedef typename Form::Row Row;
    typedef typename Form::Weight Weight;
    constexpr int64_t kColumns = Form::kPanelsAtOnce * kPanel;
    const int64_t matrices = groups_ / MergedGroups(groups_, grid.out_channels);
    const int64_t columns = grid.out_channels / matrices, in = grid.channels / matrices;
    const int64_t depth = kernel_size_ * kernel_size_ * in;
    const int64_t padded = RoundUp(depth, Form::kPart);
    // Not a power of two, which would put all rows into few sets of the caches.
    const int64_t stride = padded + 64 / sizeof(Row);
    const int64_t rows = grid.images * grid.out_height * grid.out_width;
    // What a task gathers stays in the second cache, unless that makes its rows too few.
    const int64_t most = std::clamp<int64_t>(98304 / stride / 12 * 12, 48, 192);
    const Weight* packed = weight.packed.template flat<Weight>().data();
    const int64_t cost = CostOfProducts(depth * grid.out_channels / 2);
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
          Row* end_of_row =
              Gather<Form>(grid, x, sizes, begin + i, m * in, in, a + i * stride);
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

  // The channels [first, first + count) of an output's input window, one location after another;
  // the end of them.
  template <typename Form>
  typename Form::Row* Gather(const Grid& grid, const uint8_t* x, const int32_t* sizes,
                               int64_t row, int64_t first, int64_t count,
                               typename Form::Row* to) const {
    const auto nothing = Form::Nothing(zero_point_);
    const int64_t line = row / grid.out_width, image = line / grid.out_height;
    const int64_t left = row % grid.out_width * stride_ - padding_;
    const int64_t top = line % grid.out_height * stride_ - padding_;
    const int64_t height =
        sizes ? std::min<int64_t>(sizes[image * 2], grid.height) : grid.height;
    const int64_t width =
        sizes ? std::min<int64_t>(sizes[image * 2 + 1], grid.width) : grid.width;
    const bool whole = dilation_ == 1 && count == grid.channels && left >= 0 &&
                       left + kernel_size_ <= width;
    for (int64_t i = 0; i < kernel_size_; ++i) {
      const int64_t y = top + i * dilation_;
      const uint8_t* locations = x + (image * grid.height + y) * grid.width * grid.channels;
      if (y < 0 || y >= height) {
        to = std::fill_n(to, kernel_size_ * count, nothing);
      } else if (whole) {
        Form::Read(locations + left * grid.channels, kernel_size_ * count, zero_point_, to);
        to += kernel_size_ * count;
      } else {
        for (int64_t j = 0; j < kernel_size_; ++j, to += count) {
          const int64_t at = left + j * dilation_;
          if (at >= 0 && at < width)
            Form::Read(locations + at * grid.channels + first, count, zero_point_, to);
          else
            std::fill_n(to, count, nothing);
        }
      }
    }
    return to;
  }

  int zero_point_, kernel_size_, stride_, padding_, groups_, dilation_;
  SumsOutput epilogue_;
  std::mutex mutex_;
  std::shared_ptr<const QuantizedWeight> packed_;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectQuantizedConv").Device(tensorflow::DEVICE_CPU),
                        QuantizedConvOp);

}  // namespace
}  // namespace tfdetect
