// What the registrations of GPU kernels share.
#ifndef TFDETECT_GPU_OP_HELPERS_H_
#define TFDETECT_GPU_OP_HELPERS_H_

#include "gpu.h"
#include "op_helpers.h"
#include "xla/stream_executor/stream.h"

namespace tfdetect {

inline GpuStream StreamOf(tensorflow::OpKernelContext* context) {
  return static_cast<GpuStream>(
      context->op_device_context()->stream()->platform_specific_handle().stream);
}

inline absl::Status AllocateWorkspace(tensorflow::OpKernelContext* context, int64_t bytes,
                                      tensorflow::Tensor* workspace) {
  return context->allocate_temp(tensorflow::DT_INT8, {bytes}, workspace);
}

inline absl::Status Launched(const char* error) {
  if (error == nullptr) return absl::OkStatus();
  return tensorflow::errors::Internal("CUDA kernel: ", error);
}

template <typename T>
struct FloatTypeOf;
template <>
struct FloatTypeOf<float> {
  static constexpr FloatType value = FloatType::kFloat;
};
template <>
struct FloatTypeOf<Eigen::half> {
  static constexpr FloatType value = FloatType::kHalf;
};
template <>
struct FloatTypeOf<Eigen::bfloat16> {
  static constexpr FloatType value = FloatType::kBFloat16;
};

}  // namespace tfdetect

#endif  // TFDETECT_GPU_OP_HELPERS_H_
