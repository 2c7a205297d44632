// What benchmarks/roi_align_cuda.py calls: ROIAlign and its gradient, timed on data that stay on
// the GPU, and the bandwidth of its memory.

#include <cstring>
#include <memory>

#include "device_array.h"
#include "roi_align_gpu.h"

namespace {

using namespace tfdetect;

constexpr int kTimes = 20;

// Of one call, in milliseconds, by the GPU's clock.
template <typename Function>
double Milliseconds(const Function& function) {
  cudaEvent_t start, stop;
  Check(cudaEventCreate(&start));
  Check(cudaEventCreate(&stop));
  Check(cudaEventRecord(start));
  for (int i = 0; i < kTimes; ++i) function();
  Check(cudaEventRecord(stop));
  Check(cudaEventSynchronize(stop));
  float milliseconds;
  Check(cudaEventElapsedTime(&milliseconds, start, stop));
  Check(cudaEventDestroy(start));
  Check(cudaEventDestroy(stop));
  return milliseconds / kTimes;
}

std::vector<char> Copy(const void* data, int64_t bytes) {
  std::vector<char> copy(bytes);
  std::memcpy(copy.data(), data, bytes);
  return copy;
}

struct Regions {
  RoiAlignShape shape;
  FloatType type;
  int64_t count;
  DeviceArray<char> features, grad, output, gradient;
  DeviceArray<float> boxes;
  DeviceArray<int32_t> indices;
};

std::unique_ptr<Regions> regions;

}  // namespace

extern "C" {

// Whether there is a GPU; its name to `name`.
bool tfdetect_gpu(char* name, int64_t length) {
  int devices = 0;
  cudaDeviceProp properties;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return false;
  Check(cudaGetDeviceProperties(&properties, 0));
  std::snprintf(name, length, "%s", properties.name);
  return true;
}

// features [sizes[0..3]] and grad [count, sizes[4..5], sizes[3]] of the type 0 float32 or 1
// float16, boxes [count, 4] of image 0; all of them are copied.
void tfdetect_set_regions(const int64_t* sizes, float spatial_scale, int type, const void* features,
                          const void* grad, const float* boxes, int64_t count) {
  const RoiAlignShape shape = {sizes[0], sizes[1], sizes[2], sizes[3],
                               static_cast<int32_t>(sizes[4]), static_cast<int32_t>(sizes[5]),
                               spatial_scale, 0, true, nullptr};
  const int64_t size = type == 0 ? 4 : 2;
  const int64_t in = size * sizes[0] * sizes[1] * sizes[2] * sizes[3];
  const int64_t out = size * count * sizes[4] * sizes[5] * sizes[3];
  regions.reset(new Regions{shape, static_cast<FloatType>(type), count,
                            DeviceArray<char>(Copy(features, in)),
                            DeviceArray<char>(Copy(grad, out)), DeviceArray<char>(out),
                            DeviceArray<char>(in),
                            DeviceArray<float>(std::vector<float>(boxes, boxes + 4 * count)),
                            DeviceArray<int32_t>(std::vector<int32_t>(count, 0))});
}

// Of the forward and the gradient kernels together.
double tfdetect_roi_align_milliseconds() {
  return Milliseconds([] {
    const Regions& r = *regions;
    CheckLaunch(LaunchRoiAlign(r.shape, r.type, r.features.data(), r.boxes.data(),
                               r.indices.data(), r.count, r.output.data(), nullptr));
    CheckLaunch(LaunchRoiAlignGradient(r.shape, r.type, r.grad.data(), r.boxes.data(),
                                       r.indices.data(), r.count, r.gradient.data(), nullptr));
  });
}

// 10^9 bytes per second, read and written, of copies of 1 GB.
double tfdetect_gpu_bandwidth() {
  constexpr int64_t kBytes = int64_t{1} << 30;
  void *from, *to;
  Check(cudaMalloc(&from, kBytes));
  Check(cudaMalloc(&to, kBytes));
  const double milliseconds =
      Milliseconds([&] { Check(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyDeviceToDevice)); });
  Check(cudaFree(from));
  Check(cudaFree(to));
  return 2e-6 * kBytes / milliseconds;
}

}  // extern "C"
