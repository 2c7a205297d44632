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
    const int64_t in_height = image.dim_size(0), in_width = image.dim_size(1);
    const int64_t channels = image.dim_size(2);
    const int64_t height = output->dim_size(0), width = output->dim_size(1);

    // As in Pillow 11, a side that keeps its length is not filtered, and rows go first. (Later
    // versions put the columns first in some shapes.)
    const uint8_t* from = image.flat<uint8_t>().data();
    int64_t rows = in_height, row_pixels = in_width;
    Tensor between;
    for (const bool along_y : {false, true}) {
      if (along_y ? rows == height : row_pixels == width) continue;
      const int64_t new_rows = along_y ? height : rows, new_pixels = along_y ? row_pixels : width;
      const bool is_last = new_rows == height && new_pixels == width;
      if (!is_last) {
        OP_REQUIRES_OK(context,
                       context->allocate_temp(tensorflow::DT_UINT8,
                                              {new_rows, new_pixels, channels}, &between));
      }
      uint8_t* to = (is_last ? output : &between)->flat<uint8_t>().data();
      const ResizeAxis axis = along_y ? MakeResizeAxis(rows, height)
                                      : MakeResizeAxis(row_pixels, width);
      ParallelFor(context, new_rows, 2 * new_pixels * channels, [&](int64_t begin, int64_t end) {
        if (along_y)
          ResizeColumns(axis, from, row_pixels * channels, begin, end, to);
        else
          ResizeRows(axis, from, row_pixels, channels, begin, end, to);
      });
      from = to;
      rows = new_rows;
      row_pixels = new_pixels;
    }
    if (from == image.flat<uint8_t>().data())
      std::copy_n(from, image.NumElements(), output->flat<uint8_t>().data());
  }
};

REGISTER_KERNEL_BUILDER(Name("TfdetectResizeBilinearUint8").Device(tensorflow::DEVICE_CPU),
                        ResizeBilinearUint8Op);

}  // namespace
}  // namespace tfdetect
