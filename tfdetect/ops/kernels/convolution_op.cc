// Convolutions on the CPU in float32, with weights that are put in order ahead:
// TfdetectPackWeights, TfdetectPointwiseConv and TfdetectWinogradConv.
#include <memory>
#include <vector>

#include "matmul.h"
#include "op_helpers.h"
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
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle weight;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &weight));
      DimensionHandle outputs = c->Dim(weight, 3), panels = c->UnknownDim();
      if (c->ValueKnown(outputs)) panels = c->MakeDim(Panels(c->Value(outputs)));
      DimensionHandle products = c->UnknownDim();
      if (c->ValueKnown(c->Dim(weight, 0)))
        products = c->MakeDim(c->Value(c->Dim(weight, 0)) == 1 ? 1 : kWinogradProducts);
      c->set_output(0, c->MakeShape({products, panels, c->Dim(weight, 2), kPanel}));
      return absl::OkStatus();
    })
    .Doc("The weight [1, 1, Cin, Cout] of a TfdetectPointwiseConv or [3, 3, Cin, Cout] of a "
         "TfdetectWinogradConv as that wants it.");

REGISTER_OP("TfdetectPointwiseConv")
    .Input("x: float")
    .Input("packed: float")
    .Input("bias: float")
    .Input("addend: float")
    .Output("output: float")
    .Attr("stride: int >= 1")
    .Attr("relu: bool")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle x, bias;
      int stride;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &x));
      TF_RETURN_IF_ERROR(c->WithRank(c->input(2), 1, &bias));
      TF_RETURN_IF_ERROR(c->GetAttr("stride", &stride));
      DimensionHandle sides[2];
      for (int i = 0; i < 2; ++i) {
        TF_RETURN_IF_ERROR(c->Add(c->Dim(x, 1 + i), stride - 1, &sides[i]));
        TF_RETURN_IF_ERROR(c->Divide(sides[i], stride, false, &sides[i]));
      }
      c->set_output(0, c->MakeShape({c->Dim(x, 0), sides[0], sides[1], c->Dim(bias, 0)}));
      return absl::OkStatus();
    })
    .Doc("A 1 x 1 convolution of x [B, H, W, Cin], plus bias [Cout], plus addend (of the output's "
         "shape, or empty), and with `relu` negative values to 0.");

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

// Rows (or tiles) that a thread takes at a time: enough that weights are not read too often, few
// enough that every thread has some; a multiple of the rows that are summed together.
int64_t RowsPerTask(OpKernelContext* context, int64_t rows, int64_t most) {
  const int64_t threads = context->device()->tensorflow_cpu_worker_threads()->num_threads;
  const int64_t share = (rows + 4 * threads - 1) / (4 * threads);
  return std::clamp<int64_t>((share + 11) / 12 * 12, 12, most);
}

// Calls function(begin, end) for parts of [0, rows) on TensorFlow's threads.
template <typename Function>
void ParallelRows(OpKernelContext* context, int64_t rows, int64_t most, int64_t cost,
                  const Function& function) {
  const int64_t step = RowsPerTask(context, rows, most);
  ParallelTasks(context, (rows + step - 1) / step, cost * step, [&](int64_t task) {
    function(task * step, std::min(rows, (task + 1) * step));
  });
}

// About the nanoseconds of so many products of a row.
int64_t Cost(int64_t products) { return products / 32; }

class PackWeightsOp : public OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    const Tensor& weight = context->input(0);
    const bool pointwise = weight.dims() == 4 && weight.dim_size(0) == 1;
    const bool fits = weight.dims() == 4 && weight.dim_size(0) == weight.dim_size(1) &&
                      (pointwise || weight.dim_size(0) == 3);
    OP_REQUIRES_OK(context, CheckShape(fits, "weight", "[1, 1, Cin, Cout] or [3, 3, Cin, Cout]",
                                       weight));
    const int64_t channels = weight.dim_size(2), outputs = weight.dim_size(3);
    Tensor* packed;
    OP_REQUIRES_OK(context,
                   context->allocate_output(0, {pointwise ? 1 : kWinogradProducts, Panels(outputs),
                                                channels, kPanel},
                                            &packed));
    const float* from = weight.flat<float>().data();
    float* to = packed->flat<float>().data();
    if (pointwise)
      Pack(from, outputs, 1, channels, outputs, to);
    else
      WinogradWeights(from, channels, outputs, to);
  }
};

// What both convolutions require of x, packed and bias.
absl::Status CheckOperands(OpKernelContext* context, int64_t products) {
  const Tensor &x = context->input(0), &packed = context->input(1), &bias = context->input(2);
  TF_RETURN_IF_ERROR(CheckShape(x.dims() == 4, "x", "[B, H, W, Cin]", x));
  TF_RETURN_IF_ERROR(CheckShape(bias.dims() == 1, "bias", "[Cout]", bias));
  const bool fits = packed.dims() == 4 && packed.dim_size(0) == products &&
                    packed.dim_size(1) == Panels(bias.dim_size(0)) &&
                    packed.dim_size(2) == x.dim_size(3) && packed.dim_size(3) == kPanel;
  if (fits) return absl::OkStatus();
  return tensorflow::errors::InvalidArgument("packed ", packed.shape().DebugString(),
                                             " does not fit x ", x.shape().DebugString(),
                                             " and bias ", bias.shape().DebugString());
}

class PointwiseConvOp : public OpKernel {
 public:
  explicit PointwiseConvOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("stride", &stride_));
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, CheckOperands(context, 1));
    const Tensor &x = context->input(0), &bias = context->input(2), &addend = context->input(3);
    const int64_t height = x.dim_size(1), width = x.dim_size(2);
    const int64_t in = x.dim_size(3), out = bias.dim_size(0);
    const int64_t out_height = (height + stride_ - 1) / stride_;
    const int64_t out_width = (width + stride_ - 1) / stride_;
    const tensorflow::TensorShape shape({x.dim_size(0), out_height, out_width, out});
    OP_REQUIRES_OK(context, CheckShape(addend.NumElements() == 0 || addend.shape() == shape,
                                       "addend", shape.DebugString().c_str(), addend));
    Tensor* output;
    if (addend.NumElements() == 0 ||
        !context->forward_input_to_output_with_shape(3, 0, shape, &output))
      OP_REQUIRES_OK(context, AllocateLarge(context, 0, shape, &output));
    const Epilogue epilogue{bias.flat<float>().data(),
                            addend.NumElements() ? addend.flat<float>().data() : nullptr, relu_};
    const float* from = x.flat<float>().data();
    const float* packed = context->input(1).flat<float>().data();
    float* to = output->flat<float>().data();
    const int64_t rows = x.dim_size(0) * out_height * out_width;
    // The rows of a task stay in the second cache.
    const int64_t most = std::clamp<int64_t>(49152 / std::max<int64_t>(in, 1) / 12 * 12, 24, 192);
    ParallelRows(context, rows, most, Cost(in * out), [&](int64_t begin, int64_t end) {
      const float* a = from + begin * in;
      std::vector<float> gathered;
      if (stride_ > 1) {
        gathered.resize((end - begin) * in);
        for (int64_t row = begin; row < end; ++row) {
          const int64_t column = row % out_width * stride_, line = row / out_width;
          const int64_t y = line / out_height * height + line % out_height * stride_;
          std::copy_n(from + (y * width + column) * in, in, &gathered[(row - begin) * in]);
        }
        a = gathered.data();
      }
      Epilogue part = epilogue;
      if (part.addend) part.addend += begin * out;
      MatMul(a, in, 1, packed, end - begin, in, out, part, to + begin * out, out);
    });
  }

 private:
  int stride_;
  bool relu_;
};

class WinogradConvOp : public OpKernel {
 public:
  explicit WinogradConvOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
  }

  void Compute(OpKernelContext* context) override {
    OP_REQUIRES_OK(context, CheckOperands(context, kWinogradProducts));
    const Tensor &x = context->input(0), &bias = context->input(2), &sizes = context->input(3);
    const WinogradShape shape{x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3),
                              bias.dim_size(0)};
    OP_REQUIRES(context, shape.channels % 8 == 0 && shape.out_channels % 8 == 0,
                tensorflow::errors::InvalidArgument("channels must be multiples of 8: ",
                                                    shape.channels, " and ", shape.out_channels));
    OP_REQUIRES_OK(context, CheckShape(sizes.dims() == 2 && sizes.dim_size(1) == 2 &&
                                           (sizes.dim_size(0) == 0 ||
                                            sizes.dim_size(0) == shape.images),
                                       "sizes", "[B, 2] or [0, 2]", sizes));
    Tensor* output;
    OP_REQUIRES_OK(context, AllocateLarge(context, 0, {shape.images, shape.height, shape.width,
                                                       shape.out_channels},
                                          &output));
    const float* from = x.flat<float>().data();
    const float* packed = context->input(1).flat<float>().data();
    const int32_t* own = sizes.dim_size(0) ? sizes.flat<int32_t>().data() : nullptr;
    float* to = output->flat<float>().data();
    const int64_t cost = Cost(kWinogradProducts * shape.channels * shape.out_channels);
    ParallelRows(context, shape.tiles(), 96, cost, [&](int64_t begin, int64_t end) {
      const std::unique_ptr<float[]> scratch(new float[WinogradScratch(shape, end - begin)]);
      WinogradTiles(shape, from, packed, bias.flat<float>().data(), own, relu_, begin, end,
                    scratch.get(), to);
    });
  }

 private:
  bool relu_;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectPackWeights").Device(tensorflow::DEVICE_CPU), PackWeightsOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectPointwiseConv").Device(tensorflow::DEVICE_CPU),
                        PointwiseConvOp);
REGISTER_KERNEL_BUILDER(Name("TfdetectWinogradConv").Device(tensorflow::DEVICE_CPU),
                        WinogradConvOp);

}  // namespace
}  // namespace tfdetect
