// A step of stochastic gradient descent with momentum and weight decay, in PyTorch's form.
#ifndef TFDETECT_SGD_H_
#define TFDETECT_SGD_H_

#include <cstdint>

namespace tfdetect {

struct SgdOptions {
  float learning_rate, momentum, decay;
  bool nesterov;
};

// buffer <- momentum * buffer + (gradient + decay * parameter)
// parameter <- parameter - learning_rate * buffer
// (or * (gradient + decay * parameter + momentum * buffer)), of `count` numbers.
void SgdStep(const SgdOptions& options, const float* gradient, int64_t count, float* buffer,
             float* parameter);

}  // namespace tfdetect

#endif  // TFDETECT_SGD_H_
