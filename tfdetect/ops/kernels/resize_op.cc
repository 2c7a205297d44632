// TfdetectResizeBilinearUint8: definition, and a kernel for the CPU.
#include "resize_op.h"

#include "resize.h"

namespace tfdetect {
namespace {

using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

REGISTER_OP("TfdetectResizeBilinearUint8")
    .Input("image: uint8")
    .Input("size: int32")
    .Output("output: uint8")
    .SetShapeFn([](InferenceContext* c) {
      ShapeHandle image, size, output;
      TF_RETURN_IF_ERROR(c->WithRank(c->input(0), 3, &image));
      TF_RETURN_IF_ERROR(c->MakeShapeFromShapeTensor(1, &size));
      TF_RETURN_IF_ERROR(c->WithRank(size, 2, &size));
      TF_RETURN_IF_ERROR(c->Concatenate(size, c->Vector(c->Dim(image, 2)), &output));
      c->set_output(0, output);
      return absl::OkStatus();
    })
    .Doc("Pillow 11's Image.resize(BILINEAR) of an image [H, W, C] to size [h, w], bit for bit.");

class ResizeBilinearUint8Op : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;

  void Compute(OpKernelContext* context) override {
    Tensor* output;
    OP_REQUIRES_OK(context, CheckResize(context, &output));
    if (output->NumElements() == 0) return;
    const Tensor& image = context->input(0);
    const int64_t height = image.dim_size(0), width = image.dim_size(1);
    const int64_t channels = image.dim_size(2);
    const int64_t new_height = output->dim_size(0), new_width = output->dim_size(1);
    const uint8_t* from = image.flat<uint8_t>().data();
    uint8_t* to = output->flat<uint8_t>().data();
    if (height == new_height && width == new_width) {
      std::copy_n(from, image.NumElements(), to);
      return;
    }
    const ImageResize resize(height, width, channels, new_height, new_width);
    ParallelFor(context, new_height, 4 * new_width * channels, [&](int64_t begin, int64_t end) {
      resize.Rows(from, width * channels, begin, end, to);
    });
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectResizeBilinearUint8").Device(tensorflow::DEVICE_CPU),
                        ResizeBilinearUint8Op);

}  // namespace
}  // namespace tfdetect
