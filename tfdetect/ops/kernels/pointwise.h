// What is computed of each location by itself: layer norms, and GELU.
#ifndef TFDETECT_POINTWISE_H_
#define TFDETECT_POINTWISE_H_

#include <cstdint>

#include "half.h"

namespace tfdetect {

// Rows of `channels` numbers to mean 0 and variance 1, times weight, plus bias. `y` may be `x`;
// `scratch` has `channels` floats. Everything but x and y is float32.
template <typename T>
void LayerNorm(const T* x, const float* weight, const float* bias, float epsilon, int64_t rows,
               int64_t channels, float* scratch, T* y);

// y = x Phi(x), of n numbers; `y` may be `x`.
template <typename T>
void GeluOf(const T* x, int64_t n, T* y);

}  // namespace tfdetect

#endif  // TFDETECT_POINTWISE_H_
