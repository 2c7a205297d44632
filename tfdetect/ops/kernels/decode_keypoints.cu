// Keypoint heat maps to coordinates on the GPU.
//
// A block of threads has a map to itself. Each goes down columns of the resized map, which is
// never stored: it holds the four rows of the map that its pixel lies between, resized along x,
// and computes another only where the pixel passes one.
#include "bicubic.h"
#include "decode_keypoints.h"
#include "decode_keypoints_gpu.h"
#include "gpu_kernels.h"

namespace tfdetect {
namespace {

constexpr int kThreads = 256;
constexpr int kRows = 256;  // of the resized map, whose taps a block holds

// The greatest pixel so far and its place; none: -1.
struct Greatest {
  float value;
  int32_t place;
};

__device__ bool IsBetter(const Greatest& a, const Greatest& b) {
  if (a.place < 0) return false;
  return b.place < 0 || a.value > b.value || (a.value == b.value && a.place < b.place);
}

__global__ void DecodeKeypointsKernel(const float* heatmaps, const float* boxes, int64_t side,
                                      int64_t keypoints, float* output) {
  __shared__ BicubicTaps taps[kRows];
  __shared__ Greatest greatest[kThreads];
  __shared__ float totals[kThreads];
  const int thread = threadIdx.x;
  const int64_t n = blockIdx.x / keypoints, k = blockIdx.x % keypoints;
  const float* map = heatmaps + n * side * side * keypoints + k;
  const float* box = boxes + 4 * n;
  float* result = output + 4 * static_cast<int64_t>(blockIdx.x);
  float width = box[2] - box[0], height = box[3] - box[1];
  if (!(isfinite(width) && isfinite(height))) {  // all threads of the block
    if (thread < 4) result[thread] = 0.0f;
    return;
  }
  width = fmaxf(width, 1.0f);
  height = fmaxf(height, 1.0f);
  const int32_t columns = static_cast<int32_t>(fminf(ceilf(width), kMaxKeypointSide));
  const int32_t rows = static_cast<int32_t>(fminf(ceilf(height), kMaxKeypointSide));

  Greatest best = {0.0f, -1};
  for (int32_t first = 0; first < rows; first += kRows) {
    const int count = min(kRows, rows - first);
    __syncthreads();  // before `taps` is written again
    if (thread < count) taps[thread] = MakeBicubicTaps(side, rows, first + thread);
    __syncthreads();
    for (int32_t x = thread; x < columns; x += kThreads) {
      const BicubicTaps across = MakeBicubicTaps(side, columns, x);
      int32_t held[4] = {-1, -1, -1, -1};
      float stretched[4];
      for (int y = 0; y < count; ++y) {
        const BicubicTaps& down = taps[y];
        for (int t = 0; t < 4; ++t) {
          const int32_t row = down.index[t];
          if (row == held[t]) continue;
          if (t < 3 && row == held[t + 1]) {
            stretched[t] = stretched[t + 1];
          } else {
            const float* line = map + row * side * keypoints;
            stretched[t] = across.weight[0] * line[across.index[0] * keypoints] +
                           across.weight[1] * line[across.index[1] * keypoints] +
                           across.weight[2] * line[across.index[2] * keypoints] +
                           across.weight[3] * line[across.index[3] * keypoints];
          }
          held[t] = row;
        }
        const float value = down.weight[0] * stretched[0] + down.weight[1] * stretched[1] +
                            down.weight[2] * stretched[2] + down.weight[3] * stretched[3];
        const Greatest pixel = {value, (first + y) * columns + x};
        if (!isnan(value) && IsBetter(pixel, best)) best = pixel;
      }
    }
  }
  greatest[thread] = best;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half && IsBetter(greatest[thread + half], greatest[thread]))
      greatest[thread] = greatest[thread + half];
  }
  __syncthreads();
  const int32_t place = max(greatest[0].place, 0);
  const float logit = greatest[0].place < 0 ? NAN : greatest[0].value;

  float total = 0.0f;
  for (int64_t p = thread; p < side * side; p += kThreads)
    total += expf(map[p * keypoints] - logit);
  totals[thread] = total;
  for (int half = kThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) totals[thread] += totals[thread + half];
  }
  if (thread != 0) return;
  const float x = static_cast<float>(place % columns), y = static_cast<float>(place / columns);
  result[0] = (x + 0.5f) * (width / static_cast<float>(columns)) + box[0];
  result[1] = (y + 0.5f) * (height / static_cast<float>(rows)) + box[1];
  result[2] = logit;
  result[3] = 1.0f / totals[0];
}

}  // namespace

const char* LaunchDecodeKeypoints(const float* heatmaps, const float* boxes, int64_t n,
                                  int64_t side, int64_t keypoints, float* output,
                                  GpuStream stream) {
  if (n * keypoints == 0) return nullptr;
  TFDETECT_LAUNCH(DecodeKeypointsKernel, Blocks(n * keypoints, 1), dim3(kThreads), stream,
                  heatmaps, boxes, side, keypoints, output);
  return LaunchError();
}

}  // namespace tfdetect
