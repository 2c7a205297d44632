// Device memory for the programs here, and what they fill it with.
#ifndef TFDETECT_DEVICE_ARRAY_H_
#define TFDETECT_DEVICE_ARRAY_H_

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#ifdef TFDETECT_EMULATE_GPU
#include "emulated_gpu.h"
#else
#include <cuda_runtime.h>
#endif

#include "half.h"

namespace tfdetect {

inline void Check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("CUDA: %s\n", cudaGetErrorString(error));
  std::exit(2);
}

inline void CheckLaunch(const char* error) {
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
  // Filled with bytes that no operator gives.
  explicit DeviceArray(size_t size) : size_(size) {
    Check(cudaMalloc(&data_, size * sizeof(T)));
    const std::vector<char> filling(size * sizeof(T), 0x5a);
    Check(cudaMemcpy(data_, filling.data(), filling.size(), cudaMemcpyHostToDevice));
  }
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

inline std::mt19937 generator(1);

inline float Uniform(float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(generator);
}

template <typename T>
std::vector<T> UniformVector(int64_t n, float low = -1.0f, float high = 1.0f) {
  std::vector<T> values(n);
  for (T& value : values) FromFloat(Uniform(low, high), &value);
  return values;
}

// Boxes with corners in [-20, width + 20], sides up to `longest`.
inline std::vector<float> RandomBoxes(int64_t n, float width, float height, float longest) {
  std::vector<float> boxes;
  for (int64_t i = 0; i < n; ++i) {
    const float x = Uniform(-20, width), y = Uniform(-20, height);
    boxes.insert(boxes.end(), {x, y, x + Uniform(0, longest), y + Uniform(0, longest)});
  }
  return boxes;
}

// The greatest difference, relative to the greatest expected value; infinite where something else
// than a number stands in one of them.
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

}  // namespace tfdetect

#endif  // TFDETECT_DEVICE_ARRAY_H_
