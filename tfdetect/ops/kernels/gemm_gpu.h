// Products of float32 matrices on the GPU, without cuBLAS, whose headers the build does not need
// and whose TF32 would round to 11 bits.
#ifndef TFDETECT_GEMM_GPU_H_
#define TFDETECT_GEMM_GPU_H_

#include <cstdint>

#include "gpu.h"

namespace tfdetect {

// Several matrices of one shape, by their distances in elements.
struct GpuMatrix {
  const float* data;
  int64_t row_stride, column_stride, group_stride;
};

// c = a b, or c += a b, for each group: a [m, k], b [k, n], c [m, n], where c's columns lie side by
// side. Sums run over k in order.
void LaunchGemm(const GpuMatrix& a, const GpuMatrix& b, int64_t groups, int64_t m, int64_t k,
                int64_t n, bool accumulate, float* c, int64_t c_row_stride,
                int64_t c_group_stride, GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_GEMM_GPU_H_
