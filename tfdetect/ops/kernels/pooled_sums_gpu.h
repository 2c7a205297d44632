// Sums of runs of channels, N in each lane, which RoIAlign is made of on the GPU.
#ifndef TFDETECT_POOLED_SUMS_GPU_H_
#define TFDETECT_POOLED_SUMS_GPU_H_

#include "gpu.h"
#include "gpu_kernels.h"

namespace tfdetect {

template <typename T, int N>
__device__ void AddScaled(float weight, const T* from, float* sums) {
  const Pack<T, N> pack = *reinterpret_cast<const Pack<T, N>*>(from);
  for (int i = 0; i < N; ++i) sums[i] = fmaf(weight, ToFloat(pack.values[i]), sums[i]);
}

template <typename T, int N>
__device__ void StoreSums(const float* sums, T* to) {
  Pack<T, N> pack;
  for (int i = 0; i < N; ++i) FromFloat(sums[i], &pack.values[i]);
  *reinterpret_cast<Pack<T, N>*>(to) = pack;
}

// Calls one of the functions with the element type, and with as many elements per lane as fit
// in 16 bytes where that divides the channels.
#define TFDETECT_DISPATCH(function, type, ...)                        \
  switch (type) {                                                     \
    case FloatType::kFloat:                                           \
      if (shape.channels % 4 == 0)                                    \
        function<float, 4>(__VA_ARGS__);                              \
      else                                                            \
        function<float, 1>(__VA_ARGS__);                              \
      break;                                                          \
    case FloatType::kHalf:                                            \
      if (shape.channels % 8 == 0)                                    \
        function<__half, 8>(__VA_ARGS__);                             \
      else                                                            \
        function<__half, 1>(__VA_ARGS__);                             \
      break;                                                          \
    case FloatType::kBFloat16:                                        \
      if (shape.channels % 8 == 0)                                    \
        function<__nv_bfloat16, 8>(__VA_ARGS__);                      \
      else                                                            \
        function<__nv_bfloat16, 1>(__VA_ARGS__);                      \
      break;                                                          \
  }

}  // namespace tfdetect

#endif  // TFDETECT_POOLED_SUMS_GPU_H_
