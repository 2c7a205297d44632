/*
ROIAlign on a GPU without TensorFlow: checked against the CPU's files, and timed.

  K=tfdetect/ops/kernels
  nvcc -O3 -std=c++17 --fmad=false -arch=native -I $K -o roi_align_harness \
    tests/ops/kernels/cuda/roi_align_harness.cu $K/roi_align.cu \
    $K/roi_align.cc $K/roi_align_axis.cc

With -shared -Xcompiler -fPIC it is the library that compare_with_torchvision.py calls.
*/

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#include "half.h"
#include "roi_align.h"
#include "roi_align_gpu.h"

namespace {

using namespace tfdetect;

void Check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  std::exit(2);
}

void CheckLaunch(const char* error) {
  if (error == nullptr) return;
  std::printf("launch: %s\n", error);
  std::exit(2);
}

template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    Check(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice));
  }
  explicit DeviceArray(size_t size) : size_(size) { Check(cudaMalloc(&data_, size * sizeof(T))); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }

  T* data() const { return data_; }
  std::vector<T> Values() const {
    std::vector<T> values(size_);
    Check(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  size_t size_;
  T* data_;
};

float Milliseconds(const std::function<void()>& work) {
  constexpr int kTimes = 20;
  cudaEvent_t start, stop;
  Check(cudaEventCreate(&start));
  Check(cudaEventCreate(&stop));
  work();
  Check(cudaEventRecord(start));
  for (int i = 0; i < kTimes; ++i) work();
  Check(cudaEventRecord(stop));
  Check(cudaEventSynchronize(stop));
  float milliseconds;
  Check(cudaEventElapsedTime(&milliseconds, start, stop));
  return milliseconds / kTimes;
}

// The greatest difference, relative to the greatest value.
template <typename T>
float Difference(const std::vector<T>& actual, const std::vector<T>& expected) {
  float worst = 0.0f, scale = 1e-30f;
  for (size_t i = 0; i < actual.size(); ++i) {
    const float difference = std::fabs(ToFloat(actual[i]) - ToFloat(expected[i]));
    if (!std::isfinite(difference)) return INFINITY;
    worst = std::fmax(worst, difference);
    scale = std::fmax(scale, std::fabs(ToFloat(expected[i])));
  }
  return worst / scale;
}

template <typename T>
bool Run(const char* name, FloatType type, const RoiAlignShape& shape, float longest,
         float tolerance) {
  std::mt19937 generator(1);
  const auto uniform = [&](float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(generator);
  };
  const int64_t regions = 1000;
  std::vector<float> boxes;
  std::vector<int32_t> indices;
  for (int64_t r = 0; r < regions; ++r) {
    const float x = uniform(-20, shape.width / shape.spatial_scale - 8);
    const float y = uniform(-20, shape.height / shape.spatial_scale - 8);
    boxes.insert(boxes.end(), {x, y, x + uniform(8, longest), y + uniform(8, longest)});
    indices.push_back(static_cast<int32_t>(generator() % shape.images));
  }
  std::vector<T> features(shape.images * shape.height * shape.width * shape.channels);
  std::vector<T> grad(regions * shape.pooled_height * shape.pooled_width * shape.channels);
  for (T& value : features) FromFloat(uniform(-1, 1), &value);
  for (T& value : grad) FromFloat(uniform(-1, 1), &value);

  const DeviceArray<T> device_features(features), device_grad(grad);
  const DeviceArray<float> device_boxes(boxes);
  const DeviceArray<int32_t> device_indices(indices);
  const DeviceArray<T> output(grad.size()), gradient(features.size());
  const float forward = Milliseconds([&] {
    CheckLaunch(LaunchRoiAlign(shape, type, device_features.data(), device_boxes.data(),
                               device_indices.data(), regions, output.data(), nullptr));
  });
  const float backward = Milliseconds([&] {
    CheckLaunch(LaunchRoiAlignGradient(shape, type, device_grad.data(), device_boxes.data(),
                                       device_indices.data(), regions, gradient.data(), nullptr));
  });

  std::vector<T> expected(grad.size()), expected_gradient(features.size());
  RoiAlign(shape, features.data(), boxes.data(), indices.data(), 0, regions, expected.data());
  RoiAlignGradient reference(shape, boxes.data(), indices.data(), regions);
  reference.Sample(0, regions);
  reference.Distribute();
  for (int64_t task = 0; task < reference.tasks(); ++task)
    reference.Run(task, grad.data(), expected_gradient.data());
  const float difference = Difference(output.Values(), expected);
  const float gradient_difference = Difference(gradient.Values(), expected_gradient);
  const bool passed = difference <= tolerance && gradient_difference <= 10 * tolerance;
  std::printf("%-8s boxes to %4.0f px, ratio %d: forward %.3f ms (differs by %.1e), "
              "gradient %.3f ms (%.1e)%s\n",
              name, longest, shape.sampling_ratio, forward, difference, backward,
              gradient_difference, passed ? "" : "  FAILED");
  return passed;
}

}  // namespace

extern "C" {

// type: 0 float32, 1 float16, 2 bfloat16; sizes: B, H, W, C, bins along y, bins along x.
const char* tfdetect_roi_align(const int64_t* sizes, float spatial_scale, int sampling_ratio,
                               int aligned, int type, int is_gradient, const void* from,
                               const float* boxes, const int32_t* box_indices, int64_t regions,
                               void* to, void* stream) {
  const RoiAlignShape shape = {sizes[0], sizes[1], sizes[2], sizes[3],
                               static_cast<int32_t>(sizes[4]), static_cast<int32_t>(sizes[5]),
                               spatial_scale, sampling_ratio, aligned != 0};
  const auto launch = is_gradient ? LaunchRoiAlignGradient : LaunchRoiAlign;
  return launch(shape, static_cast<FloatType>(type), from, boxes, box_indices, regions, to,
                static_cast<GpuStream>(stream));
}

}  // extern "C"

int main() {
  bool passed = true;
  for (const float longest : {112.0f, 448.0f}) {
    for (const int ratio : {0, 2}) {
      const RoiAlignShape shape = {1, 200, 304, 256, 7, 7, 0.25f, ratio, true};
      passed &= Run<float>("float32", FloatType::kFloat, shape, longest, 1e-5f);
      passed &= Run<Half>("float16", FloatType::kHalf, shape, longest, 2e-3f);
      passed &= Run<BFloat16>("bfloat16", FloatType::kBFloat16, shape, longest, 1.6e-2f);
    }
  }
  passed &= Run<float>("float32", FloatType::kFloat, {2, 50, 76, 63, 14, 14, 0.0625f, 0, false},
                       400, 1e-5f);
  return passed ? 0 : 1;
}
