// Bilinear resize of 8-bit images on the GPU: a thread per value of each pass's output, with
// weights that are computed first, in float64, by the code that the CPU runs.
#include "gpu_kernels.h"
#include "resize_axis.h"
#include "resize_gpu.h"

namespace tfdetect {
namespace {

constexpr int kThreads = 256;

// The weights of one axis, in device memory.
struct Axis {
  int64_t in, out, taps;
  int32_t *first, *count;  // [out]
  int32_t* weights;        // [out, taps]
};

int64_t AxisSize(int64_t in, int64_t out) { return out * (2 + ResizeTaps(in, out)); }

__global__ void WeightsKernel(Axis axis) {
  const int64_t o = ThreadNumber(kThreads);
  if (o >= axis.out) return;
  ResizeWeights(axis.in, axis.out, o, &axis.first[o], &axis.count[o],
                &axis.weights[o * axis.taps]);
}

// An image [outer, axis.in, inner] to [outer, axis.out, inner].
__global__ void ResizeKernel(Axis axis, int64_t outer, int64_t inner, const uint8_t* image,
                             uint8_t* output) {
  const int64_t i = ThreadNumber(kThreads);
  if (i >= outer * axis.out * inner) return;
  const int64_t o = i / inner % axis.out;
  const uint8_t* source =
      image + (i / inner / axis.out * axis.in + axis.first[o]) * inner + i % inner;
  const int32_t* weights = axis.weights + o * axis.taps;
  int32_t sum = kResizeHalf;
  for (int32_t t = 0; t < axis.count[o]; ++t) sum += weights[t] * source[t * inner];
  output[i] = ResizeClip(sum);
}

void Resize(int64_t in, int64_t out, int64_t outer, int64_t inner, const uint8_t* image,
            int32_t* memory, uint8_t* output, GpuStream stream) {
  const Axis axis = {in, out, ResizeTaps(in, out), memory, memory + out, memory + 2 * out};
  TFDETECT_LAUNCH(WeightsKernel, Blocks(out, kThreads), dim3(kThreads), stream, axis);
  TFDETECT_LAUNCH(ResizeKernel, Blocks(outer * out * inner, kThreads), dim3(kThreads), stream,
                  axis, outer, inner, image, output);
}

}  // namespace

int64_t ResizeWorkspace(const ResizeShape& shape) {
  const int64_t weights = max(AxisSize(shape.width, shape.new_width),
                              AxisSize(shape.height, shape.new_height));
  return weights * sizeof(int32_t) + shape.height * shape.new_width * shape.channels;
}

// As in Pillow 11, a side that keeps its length is not filtered, and rows go first. The passes
// share the memory for weights: a stream runs one after the other.
const char* LaunchResize(const ResizeShape& shape, const uint8_t* image, void* workspace,
                         uint8_t* output, GpuStream stream) {
  const bool along_x = shape.width != shape.new_width, along_y = shape.height != shape.new_height;
  const int64_t row_size = shape.new_width * shape.channels;
  int32_t* weights = static_cast<int32_t*>(workspace);
  uint8_t* between =
      reinterpret_cast<uint8_t*>(weights + max(AxisSize(shape.width, shape.new_width),
                                               AxisSize(shape.height, shape.new_height)));
  if (along_x)
    Resize(shape.width, shape.new_width, shape.height, shape.channels, image, weights,
           along_y ? between : output, stream);
  if (along_y)
    Resize(shape.height, shape.new_height, 1, row_size, along_x ? between : image, weights, output,
           stream);
  if (!along_x && !along_y)
    cudaMemcpyAsync(output, image, shape.height * row_size, cudaMemcpyDeviceToDevice, stream);
  return LaunchError();
}

}  // namespace tfdetect
