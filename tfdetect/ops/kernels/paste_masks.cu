// Masks drawn into the image on the GPU: a thread per pixel.
#include "gpu_kernels.h"
#include "paste_masks.h"
#include "paste_masks_gpu.h"

namespace tfdetect {
namespace {

constexpr int kThreads = 256;

// Whether the pixel is within about one of [low, high].
__device__ bool IsNear(float low, float high, int64_t pixel) {
  const float position = static_cast<float>(pixel);
  return position >= floorf(low) - 1.0f && position < ceilf(high) + 1.0f;
}

// A cell of a mask with a border of zeros.
__device__ float Cell(const float* mask, int64_t side, int32_t row, int32_t column) {
  const bool inside = row > 0 && row <= side && column > 0 && column <= side;
  return inside ? mask[(row - 1) * side + column - 1] : 0.0f;
}

__global__ void PasteMasksKernel(const float* masks, const float* boxes, int64_t total,
                                 int64_t side, int64_t height, int64_t width, float threshold,
                                 bool* output) {
  const int64_t i = ThreadNumber(kThreads);
  if (i >= total) return;
  const int64_t x = i % width, y = i / width % height, n = i / width / height;
  const float* box = boxes + 4 * n;
  const float box_width = box[2] - box[0], box_height = box[3] - box[1];
  const bool usable = isfinite(box_width) && isfinite(box_height) && box_width > 0.0f &&
                      box_height > 0.0f;
  if (!usable || !IsNear(box[0], box[2], x) || !IsNear(box[1], box[3], y)) {
    output[i] = false;
    return;
  }
  const float* mask = masks + n * side * side;
  const MaskSample row = SampleMask(box[1], box[3], side, y);
  const MaskSample column = SampleMask(box[0], box[2], side, x);
  const float south = row.fraction, north = 1.0f - south;
  const float east = column.fraction, west = 1.0f - east;
  const float value = Cell(mask, side, row.lower, column.lower) * (north * west) +
                      Cell(mask, side, row.lower, column.lower + 1) * (north * east) +
                      Cell(mask, side, row.lower + 1, column.lower) * (south * west) +
                      Cell(mask, side, row.lower + 1, column.lower + 1) * (south * east);
  output[i] = value >= threshold;
}

}  // namespace

const char* LaunchPasteMasks(const float* masks, const float* boxes, int64_t n, int64_t side,
                             int64_t height, int64_t width, float threshold, bool* output,
                             GpuStream stream) {
  const int64_t total = n * height * width;
  if (total == 0) return nullptr;
  TFDETECT_LAUNCH(PasteMasksKernel, Blocks(total, kThreads), dim3(kThreads), stream, masks, boxes,
                  total, side, height, width, threshold, output);
  return LaunchError();
}

}  // namespace tfdetect
