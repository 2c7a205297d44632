// Outputs and scratch of the CPU's operators that are large: in memory that is kept.
#ifndef TFDETECT_LARGE_TENSOR_H_
#define TFDETECT_LARGE_TENSOR_H_

#include <memory>
#include <string>

#include "large_memory.h"
#include "tensorflow/core/framework/allocator.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfdetect {

// Of the process. Never destroyed: tensors may outlive everything else.
inline LargeMemory& ProcessMemory() {
  // Addresses only, of which there are 500 times as many.
  static LargeMemory* const memory = new LargeMemory(size_t{1} << 38);
  return *memory;
}

class LargeAllocator : public tensorflow::Allocator {
 public:
  std::string Name() override { return "tfdetect_large"; }
  void* AllocateRaw(size_t /*alignment: its blocks have more*/, size_t bytes) override {
    return ProcessMemory().Take(bytes);
  }
  void DeallocateRaw(void* block) override { ProcessMemory().Give(block); }
};

// What one task of an operator writes to first.
class Scratch {
 public:
  explicit Scratch(int64_t floats)
      : block_(ProcessMemory().Take(floats * sizeof(float))),
        other_(block_ == nullptr ? new float[floats] : nullptr) {}
  ~Scratch() {
    if (block_ != nullptr) ProcessMemory().Give(block_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* data() { return block_ == nullptr ? other_.get() : static_cast<float*>(block_); }

 private:
  void* const block_;
  const std::unique_ptr<float[]> other_;
};

// allocate_output for an output of any size that is written as a whole.
inline absl::Status AllocateLarge(tensorflow::OpKernelContext* context, int index,
                                  const tensorflow::TensorShape& shape,
                                  tensorflow::Tensor** output) {
  static LargeAllocator* const allocator = new LargeAllocator;
  const tensorflow::DataType type = context->expected_output_dtype(index);
  const int64_t bytes = shape.num_elements() * tensorflow::DataTypeSize(type);
  if (bytes >= static_cast<int64_t>(LargeMemory::kSmallest)) {
    const tensorflow::Tensor tensor(allocator, type, shape);
    if (tensor.IsInitialized()) {
      context->set_output(index, tensor);
      *output = context->mutable_output(index);
      return absl::OkStatus();
    }
  }
  return context->allocate_output(index, shape, output);
}

}  // namespace tfdetect

#endif  // TFDETECT_LARGE_TENSOR_H_
