// TfdetectGroupNorm, of inference on the CPU.
#include <cmath>
#include <vector>

#include "group_norm.h"
#include "op_helpers.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;

REGISTER_OP("TfdetectGroupNorm")
    .Input("x: T")
    .Input("weight: float")
    .Input("bias: float")
    .Input("sizes: int32")
    .Input("residual: T")
    .Output("output: T")
    .Attr("groups: int >= 1")
    .Attr("epsilon: float")
    .Attr("relu: bool")
    .Attr("T: {float, bfloat16}")
    .SetShapeFn(tensorflow::shape_inference::UnchangedShape)
    .Doc("x [B, H, W, C] with the mean and variance of each image's groups of channels taken out, "
         "times weight [C], plus bias [C], plus residual (or empty), and with `relu` negative "
         "values to 0. Statistics are of what lies within sizes [B, 2] (or [0, 2]: of all).");

template <typename T>
class GroupNormOp : public OpKernel {
 public:
  explicit GroupNormOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("groups", &groups_));
    OP_REQUIRES_OK(context, context->GetAttr("epsilon", &epsilon_));
    OP_REQUIRES_OK(context, context->GetAttr("relu", &relu_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &sizes = context->input(3), &residual = context->input(4);
    OP_REQUIRES_OK(context, CheckShape(x.dims() == 4, "x", "[B, H, W, C]", x));
    Map map{x.dim_size(0), x.dim_size(1), x.dim_size(2), x.dim_size(3)};
    OP_REQUIRES(context, map.channels % 8 == 0 && map.channels % groups_ == 0,
                tensorflow::errors::InvalidArgument(map.channels, " channels are not a multiple of ",
                                                    "8 and of ", groups_, " groups"));
    for (int i : {1, 2})
      OP_REQUIRES_OK(context, CheckVector(i == 1 ? "weight" : "bias", context->input(i),
                                          map.channels));
    OP_REQUIRES_OK(context, CheckValidSizes(sizes, map.images));
    OP_REQUIRES_OK(context, CheckShape(residual.NumElements() == 0 || residual.shape() == x.shape(),
                                       "residual", x.shape().DebugString().c_str(), residual));
    Tensor* output;
    OP_REQUIRES_OK(context,
                   context->forward_input_or_allocate_output({0}, 0, x.shape(), &output));
    if (output->NumElements() == 0) return;
    map.x = Data<T>(x);
    map.residual = residual.NumElements() ? Data<T>(residual) : nullptr;
    map.y = MutableData<T>(output);
    map.weight = context->input(1).flat<float>().data();
    map.bias = context->input(2).flat<float>().data();
    map.sizes = sizes.dim_size(0) ? sizes.flat<int32_t>().data() : nullptr;
    // Threads take images, or rows of one image after another; sums are the same.
    const int64_t of_row = map.width * map.channels;
    const int64_t threads = context->device()->tensorflow_cpu_worker_threads()->num_threads;
    if (map.images >= 2 * threads) {
      ParallelTasks(context, map.images, map.height * of_row, [&](int64_t image) {
        Image(map, image, [&](const auto& rows) { rows(0, map.height); });
      });
    } else {
      for (int64_t image = 0; image < map.images; ++image)
        Image(map, image, [&](const auto& rows) { ParallelFor(context, map.height, of_row, rows); });
    }
  }

 private:
  typedef typename Element<T>::Type Value;

  struct Map {
    int64_t images, height, width, channels;
    const Value *x = nullptr, *residual = nullptr;
    Value* y = nullptr;
    const float *weight = nullptr, *bias = nullptr;
    const int32_t* sizes = nullptr;
  };

  // for_rows(f) calls f(begin, end) for parts of the image's rows.
  template <typename ForRows>
  void Image(const Map& map, int64_t image, const ForRows& for_rows) const {
    const int64_t channels = map.channels, of_row = map.width * channels;
    const int64_t first = image * map.height * of_row;
    const int64_t height =
        map.sizes ? std::min<int64_t>(map.sizes[image * 2], map.height) : map.height;
    const int64_t width =
        map.sizes ? std::min<int64_t>(map.sizes[image * 2 + 1], map.width) : map.width;
    std::vector<float> sums(std::max<int64_t>(height, 0) * channels), mean(channels),
        scale(channels);
    const double count = static_cast<double>(height) * static_cast<double>(width);
    for (float* statistic : {mean.data(), scale.data()}) {
      const float* centre = statistic == mean.data() ? nullptr : mean.data();
      for_rows([&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < std::min(end, height); ++row)
          ChannelSums(map.x + first + row * of_row, width, channels, centre,
                      sums.data() + row * channels);
      });
      GroupMeans(sums.data(), height, channels, groups_, count, statistic);
    }
    for (int64_t c = 0; c < channels; ++c)
      scale[c] = map.weight[c] / std::sqrt(scale[c] + epsilon_);
    const GroupNormOutput output{mean.data(), scale.data(), map.bias, relu_};
    for_rows([&](int64_t begin, int64_t end) {
      const int64_t at = first + begin * of_row;
      Normalize(output, map.x + at, map.residual ? map.residual + at : nullptr,
                (end - begin) * map.width, channels, map.y + at);
    });
  }

  int groups_;
  float epsilon_;
  bool relu_;
};

REGISTER_KERNEL_BUILDER(
    Name("TfdetectGroupNorm").Device(tensorflow::DEVICE_CPU).TypeConstraint<float>("T"),
    GroupNormOp<float>);
REGISTER_KERNEL_BUILDER(
    Name("TfdetectGroupNorm").Device(tensorflow::DEVICE_CPU).TypeConstraint<Eigen::bfloat16>("T"),
    GroupNormOp<Eigen::bfloat16>);

}  // namespace
}  // namespace tfdetect
