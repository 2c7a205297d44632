// A step of SGD on variables, in the memory that they have: TfdetectSgdStep.
//
// TensorFlow's operations for it need four tensors of a parameter's size beside the gradient, when
// most of a training step's memory is still in use.
#include "op_helpers.h"
#include "sgd.h"

// The type of a resource is known by an address in a header's inline function: TensorFlow's own one,
// and not a copy of this library's.
#pragma GCC visibility push(default)
#include "tensorflow/core/framework/resource_mgr.h"
#include "tensorflow/core/framework/resource_var.h"
#pragma GCC visibility pop

namespace tfdetect {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::Var;

REGISTER_OP("TfdetectSgdStep")
    .Input("parameter: resource")
    .Input("buffer: resource")
    .Input("gradient: float")
    .Input("learning_rate: float")
    .Input("usable: bool")
    .Attr("momentum: float")
    .Attr("decay: float")
    .Attr("nesterov: bool")
    .SetIsStateful()
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext*) { return absl::OkStatus(); })
    .Doc("buffer <- momentum * buffer + (gradient + decay * parameter), and parameter <- parameter - "
         "learning_rate * buffer, or Nesterov's direction; nothing unless `usable`.");

class SgdStepOp : public OpKernel {
 public:
  explicit SgdStepOp(OpKernelConstruction* context) : OpKernel(context) {
    OP_REQUIRES_OK(context, context->GetAttr("momentum", &options_.momentum));
    OP_REQUIRES_OK(context, context->GetAttr("decay", &options_.decay));
    OP_REQUIRES_OK(context, context->GetAttr("nesterov", &options_.nesterov));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &gradient = context->input(2), &rate = context->input(3);
    const Tensor& usable = context->input(4);
    OP_REQUIRES_OK(context, CheckShape(rate.dims() == 0, "learning_rate", "[]", rate));
    OP_REQUIRES_OK(context, CheckShape(usable.dims() == 0, "usable", "[]", usable));
    if (!usable.scalar<bool>()()) return;
    tensorflow::core::RefCountPtr<Var> parameter, buffer;
    OP_REQUIRES_OK(context, LookupResource(context, HandleFromInput(context, 0), &parameter));
    OP_REQUIRES_OK(context, LookupResource(context, HandleFromInput(context, 1), &buffer));
    tensorflow::mutex_lock parameter_lock(*parameter->mu());
    tensorflow::mutex_lock buffer_lock(*buffer->mu());
    for (Var* variable : {parameter.get(), buffer.get()}) {
      const Tensor& tensor = *variable->tensor();
      OP_REQUIRES(context, tensor.dtype() == tensorflow::DT_FLOAT,
                  tensorflow::errors::InvalidArgument("variables must be float32"));
      OP_REQUIRES_OK(context, CheckShape(tensor.shape() == gradient.shape(), "a variable",
                                         gradient.shape().DebugString().c_str(), tensor));
      OP_REQUIRES_OK(context, Own(context, variable));
    }
    SgdOptions options = options_;
    options.learning_rate = rate.scalar<float>()();
    const float* from = gradient.flat<float>().data();
    float* of_buffer = buffer->tensor()->flat<float>().data();
    float* of_parameter = parameter->tensor()->flat<float>().data();
    ParallelFor(context, gradient.NumElements(), 1, [&](int64_t begin, int64_t end) {
      SgdStep(options, from + begin, end - begin, of_buffer + begin, of_parameter + begin);
    });
  }

 private:
  // Values that somebody has read and still holds stay as they are: the variable gets others.
  static absl::Status Own(OpKernelContext* context, Var* variable) {
    Tensor* tensor = variable->tensor();
    if (tensor->RefCountIsOne()) return absl::OkStatus();
    Tensor copy;
    TF_RETURN_IF_ERROR(context->allocate_temp(tensorflow::DT_FLOAT, tensor->shape(), &copy));
    copy.flat<float>() = tensor->flat<float>();
    *tensor = copy;
    return absl::OkStatus();
  }

  SgdOptions options_;
};

REGISTER_KERNEL_BUILDER(Name("TfdetectSgdStep").Device(tensorflow::DEVICE_CPU), SgdStepOp);

}  // namespace
}  // namespace tfdetect
