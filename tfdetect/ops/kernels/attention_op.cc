// TfdetectAttention: definition, and kernels for the CPU.
#include "attention.h"
#include "op_helpers.h"
#include "scratch.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectAttention")
    .Input("query: T")
    .Input("key: T")
    .Input("value: T")
    .Input("bias: T")
    .Input("rel_h: T")
    .Input("rel_w: T")
    .Output("output: T")
    .Attr("scale: float")
    .Attr("T: {float, half, bfloat16}")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle query;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 4, &query));
      c->set_output(0, query);
      return absl::OkStatus();
    })
    .Doc("softmax(scale * query key^T + bias + rel_h and rel_w) value, of query [B, Nq, heads, D], "
         "key and value [B, Nk, heads, D], bias [G, heads, Nq, Nk] (for item b bias[b % G]), rel_h "
         "[B, Nq, heads, Kh] and rel_w [B, Nq, heads, Kw], Kh * Kw = Nk. bias, and rel_h with "
         "rel_w, may be [0, 0, 0, 0] for none.");

absl::Status CheckAttention(OpKernelContext* context, AttentionShape* shape) {
  for (int i = 0; i < 6; ++i) {
    const char* const names[] = {"query", "key", "value", "bias", "rel_h", "rel_w"};
    TF_RETURN_IF_ERROR(CheckShape(context->input(i).dims() == 4, names[i], "of four dimensions",
                                  context->input(i)));
  }
  const Tensor &query = context->input(0), &key = context->input(1), &value = context->input(2);
  const Tensor &bias = context->input(3), &rel_h = context->input(4), &rel_w = context->input(5);
  shape->batch = query.dim_size(0);
  shape->queries = query.dim_size(1);
  shape->heads = query.dim_size(2);
  shape->depth = query.dim_size(3);
  shape->keys = key.dim_size(1);
  const tensorflow::TensorShape keys(
      {shape->batch, shape->keys, shape->heads, shape->depth});
  TF_RETURN_IF_ERROR(CheckShape(key.shape() == keys, "key", keys.DebugString().c_str(), key));
  TF_RETURN_IF_ERROR(
      CheckShape(value.shape() == keys, "value", keys.DebugString().c_str(), value));
  shape->groups = bias.dim_size(0);
  if (shape->groups > 0) {
    const tensorflow::TensorShape wanted(
        {shape->groups, shape->heads, shape->queries, shape->keys});
    TF_RETURN_IF_ERROR(
        CheckShape(bias.shape() == wanted && shape->batch % shape->groups == 0, "bias",
                   "[G, heads, Nq, Nk], of whose G the batch is a multiple,", bias));
  }
  shape->rows = rel_h.dim_size(3);
  shape->columns = rel_w.dim_size(3);
  if (shape->rows > 0 || shape->columns > 0) {
    const auto fits = [&](const Tensor& rel) {
      return rel.dim_size(0) == shape->batch && rel.dim_size(1) == shape->queries &&
             rel.dim_size(2) == shape->heads;
    };
    TF_RETURN_IF_ERROR(CheckShape(fits(rel_h) && shape->rows * shape->columns == shape->keys,
                                  "rel_h", "[B, Nq, heads, Kh]", rel_h));
    TF_RETURN_IF_ERROR(CheckShape(fits(rel_w), "rel_w", "[B, Nq, heads, Kw]", rel_w));
  }
  return absl::OkStatus();
}

template <typename T>
class AttentionOp : public tensorflow::OpKernel {
 public:
  explicit AttentionOp(tensorflow::OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("scale", &scale_));
  }

  void Compute(OpKernelContext* context) override {
    AttentionShape shape;
    shape.scale = scale_;
    OP_REQUIRES_OK(context, CheckAttention(context, &shape));
    Tensor* output;
    OP_REQUIRES_OK(context, context->allocate_output(0, context->input(0).shape(), &output));
    if (output->NumElements() == 0) return;
    const auto data = [context](int i) { return Data<T>(context->input(i)); };
    const AttentionOperands<typename Element<T>::Type> operands{
        data(0), data(1), data(2), data(3), data(4), data(5), MutableData<T>(output)};
    const int64_t products = 2 * shape.tile() * shape.keys * shape.depth;
    ParallelTasks(context, shape.tasks(), products / 32, [&](int64_t task) {
      Scratch scratch(context, shape.scratch());
      Attention(shape, operands, task, scratch.data());
    });
  }

 private:
  float scale_;
};

TFDETECT_REGISTER_FLOATS(Name("TfdetectAttention").Device(tensorflow::DEVICE_CPU), AttentionOp);

}  // namespace
}  // namespace tfdetect
