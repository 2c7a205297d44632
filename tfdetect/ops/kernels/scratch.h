// What one task of a CPU operator writes to first, from TensorFlow's allocator.
//
// Operators have no memory of their own. A pool that keeps the pages of feature maps saved 8 % of a
// prediction's processor time in a process with malloc's defaults, and none in one that keeps them
// anyway (cli/heap.py); but nothing else in the process could use its memory.
#ifndef TFDETECT_SCRATCH_H_
#define TFDETECT_SCRATCH_H_

#include <cstdint>
#include <new>

#include "tensorflow/core/framework/allocator.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfdetect {

// Not cleared. Safe on several threads of one kernel, as allocate_temp need not be.
class Scratch {
 public:
  Scratch(tensorflow::OpKernelContext* context, int64_t floats)
      : allocator_(context->get_allocator({})),
        data_(static_cast<float*>(allocator_->AllocateRaw(
            tensorflow::Allocator::kAllocatorAlignment, floats * sizeof(float)))) {
    if (data_ == nullptr && floats > 0) throw std::bad_alloc();
  }
  ~Scratch() {
    if (data_ != nullptr) allocator_->DeallocateRaw(data_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  float* data() { return data_; }

 private:
  tensorflow::Allocator* const allocator_;
  float* const data_;
};

}  // namespace tfdetect

#endif  // TFDETECT_SCRATCH_H_
