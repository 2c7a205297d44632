// Masks drawn into the image on the GPU: a block per row of a mask's image, a thread per pixels that
// are stored at once.
#include "gpu_kernels.h"
#include "paste_masks.h"
#include "paste_masks_gpu.h"

namespace tfdetect {
namespace {

constexpr int kThreads = 128;
constexpr int kEach = 4;  // pixels that a thread stores at once

// Whether the pixel is within about one of [low, high].
__device__ bool IsNear(float low, float high, int64_t pixel) {
  const float position = static_cast<float>(pixel);
  return position >= floorf(low) - 1.0f && position < ceilf(high) + 1.0f;
}

// A pixel of a mask with a border of zeros.
__device__ float MaskAt(const float* mask, int64_t side, int32_t row, int32_t column) {
  const bool inside = row > 0 && row <= side && column > 0 && column <= side;
  return inside ? mask[(row - 1) * side + column - 1] : 0.0f;
}

__device__ bool Sample(const float* mask, int64_t side, const MaskSample& row,
                       const MaskSample& column, float threshold) {
  const float south = row.fraction, north = 1.0f - south;
  const float east = column.fraction, west = 1.0f - east;
  const float value = MaskAt(mask, side, row.lower, column.lower) * (north * west) +
                      MaskAt(mask, side, row.lower, column.lower + 1) * (north * east) +
                      MaskAt(mask, side, row.lower + 1, column.lower) * (south * west) +
                      MaskAt(mask, side, row.lower + 1, column.lower + 1) * (south * east);
  return value >= threshold;
}

// Grid: over the rows of all masks.
template <int N>
__global__ void PasteMasksKernel(const float* masks, const float* boxes, int64_t side,
                                 int64_t height, int64_t width, float threshold, bool* output) {
  const int64_t n = blockIdx.x / height, y = blockIdx.x % height;
  const float* box = boxes + 4 * n;
  const float box_width = box[2] - box[0], box_height = box[3] - box[1];
  const bool usable = isfinite(box_width) && isfinite(box_height) && box_width > 0.0f &&
                      box_height > 0.0f && IsNear(box[1], box[3], y);
  const float* mask = masks + n * side * side;
  const MaskSample row = usable ? SampleMask(box[1], box[3], side, y) : MaskSample{0, 0.0f};
  bool* to = output + blockIdx.x * width;
  for (int64_t first = threadIdx.x * N; first < width; first += kThreads * N) {
    Pack<bool, N> pixels;
    for (int i = 0; i < N; ++i) {
      const int64_t x = first + i;
      pixels.values[i] =
          usable && IsNear(box[0], box[2], x) &&
          Sample(mask, side, row, SampleMask(box[0], box[2], side, x), threshold);
    }
    *reinterpret_cast<Pack<bool, N>*>(to + first) = pixels;
  }
}

}  // namespace

const char* LaunchPasteMasks(const float* masks, const float* boxes, int64_t n, int64_t side,
                             int64_t height, int64_t width, float threshold, bool* output,
                             GpuStream stream) {
  if (n * height * width == 0) return nullptr;
  const dim3 grid(static_cast<unsigned>(n * height));
  if (width % kEach == 0) {
    TFDETECT_LAUNCH(PasteMasksKernel<kEach>, grid, dim3(kThreads), stream, masks, boxes, side,
                    height, width, threshold, output);
  } else {
    TFDETECT_LAUNCH(PasteMasksKernel<1>, grid, dim3(kThreads), stream, masks, boxes, side, height,
                    width, threshold, output);
  }
  return LaunchError();
}

}  // namespace tfdetect
