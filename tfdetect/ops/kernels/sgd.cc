#include "sgd.h"

#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

template <typename V>
TFDETECT_INLINE void Step(const SgdOptions& o, const float* gradient, float* buffer,
                          float* parameter) {
  V g, b, p;
  Load(gradient, g);
  Load(buffer, b);
  Load(parameter, p);
  const V decayed = g + o.decay * p;
  b = o.momentum * b + decayed;
  Store(b, buffer);
  const V direction = o.nesterov ? decayed + o.momentum * b : b;
  p -= o.learning_rate * direction;
  Store(p, parameter);
}

TFDETECT_INLINE void StepLoop(const SgdOptions& options, const float* gradient, int64_t count,
                              float* buffer, float* parameter) {
  int64_t i = 0;
  for (; i + 8 <= count; i += 8)
    Step<Float8>(options, gradient + i, buffer + i, parameter + i);
  for (; i < count; ++i) Step<float>(options, gradient + i, buffer + i, parameter + i);
}
const auto BestStep = BestVersion<StepLoop>();

}  // namespace

void SgdStep(const SgdOptions& options, const float* gradient, int64_t count, float* buffer,
             float* parameter) {
  BestStep(options, gradient, count, buffer, parameter);
}

}  // namespace tfdetect
