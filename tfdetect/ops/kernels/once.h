// One registration of the kernels in a process, however many of these libraries are loaded: every
// native SavedModel has a copy of its own, and so has the cache of who made it.
//
// TensorFlow takes a second definition of an operator for the first one, but of two kernels it
// cannot choose ("Multiple OpKernel registrations match"). The first library that is loaded
// registers its kernels, and those that follow none, if they are made of the same sources; of
// others the loading fails. The sources' digest is the label of a kernel that nothing else uses.
//
// Included before all registrations, whose macros it completes.
#ifndef TFDETECT_ONCE_H_
#define TFDETECT_ONCE_H_

#include <cstring>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"

namespace tfdetect {

inline const char* const kMarked = "TfdetectNms";
inline const char* const kDigest = "tfdetect " TFDETECT_DIGEST;

struct Earlier {
  bool cpu = false;
  bool gpu = false;
  bool other_version = false;
};

// What libraries that were loaded before this one have registered. First asked for before this one
// registers anything.
inline const Earlier& earlier() {
  static const Earlier found = [] {
    Earlier result;
    bool same = false;
    const tensorflow::KernelList kernels = tensorflow::GetRegisteredKernelsForOp(kMarked);
    for (const auto& kernel : kernels.kernel()) {
      result.cpu |= kernel.device_type() == tensorflow::DEVICE_CPU;
      result.gpu |= kernel.device_type() == tensorflow::DEVICE_GPU;
      same |= kernel.label() == kDigest;
    }
    result.other_version = result.cpu && !same;
    return result;
  }();
  return found;
}

// Whether the kernel of this class is to be registered; those of GPUs end in "GpuOp".
inline bool should_register(const char* kernel_class) {
  const Earlier& before = earlier();
  if (before.other_version) return false;
  return std::strstr(kernel_class, "GpuOp") != nullptr ? !before.gpu : !before.cpu;
}

// Makes `tf.load_op_library` fail, by an operator that cannot be registered.
inline const bool kRefused = [] {
  if (!earlier().other_version) return false;
  tensorflow::OpRegistry::Global()->Register([](tensorflow::OpRegistrationData*) {
    return absl::FailedPreconditionError(
        "tfdetect's operators are loaded in this process already, of another version of tfdetect: "
        "use models of different versions in processes of their own, or export them again");
  });
  return true;
}();

class MarkerOp : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;
  void Compute(tensorflow::OpKernelContext* context) override {
    context->SetStatus(absl::UnimplementedError("a marker"));
  }
};

}  // namespace tfdetect

// TensorFlow's own way to leave kernels out, which it means for what is known when it compiles.
#undef TF_INIT_ON_STARTUP_IF
#define TF_INIT_ON_STARTUP_IF(condition) \
  !(condition) ? ::tensorflow::InitOnStartupMarker{} : ::tensorflow::InitOnStartupMarker {}
#undef SHOULD_REGISTER_OP_KERNEL
#define SHOULD_REGISTER_OP_KERNEL(kernel_class) ::tfdetect::should_register(kernel_class)

namespace tfdetect {
REGISTER_KERNEL_BUILDER(Name(kMarked).Device(tensorflow::DEVICE_CPU).Label(kDigest), MarkerOp);
}  // namespace tfdetect

#endif  // TFDETECT_ONCE_H_
