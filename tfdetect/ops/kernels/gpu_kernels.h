// What the CUDA files share.
#ifndef TFDETECT_GPU_KERNELS_H_
#define TFDETECT_GPU_KERNELS_H_

#include <cstdint>

#ifdef TFDETECT_EMULATE_GPU  // tests run kernels on the CPU
#include "emulated_gpu.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define TFDETECT_LAUNCH(kernel, grid, block, stream, ...) \
  kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)

namespace tfdetect {

__device__ inline float ToFloat(float value) { return value; }
__device__ inline float ToFloat(__half value) { return __half2float(value); }
__device__ inline float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline void FromFloat(float value, float* to) { *to = value; }
__device__ inline void FromFloat(float value, __half* to) { *to = __float2half_rn(value); }
__device__ inline void FromFloat(float value, __nv_bfloat16* to) {
  *to = __float2bfloat16_rn(value);
}

}  // namespace tfdetect
#endif

namespace tfdetect {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// Blocks of `threads` for `total` elements.
inline dim3 Blocks(int64_t total, int64_t threads) {
  return dim3(static_cast<unsigned>((total + threads - 1) / threads));
}

// The thread's number among all of a grid and block that have only x.
__device__ inline int64_t ThreadNumber(int64_t threads) {
  return static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
}

inline const char* LaunchError() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// N elements that are loaded and stored at once.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

}  // namespace tfdetect

#endif  // TFDETECT_GPU_KERNELS_H_
