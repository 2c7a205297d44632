#include "pointwise.h"

#include <algorithm>
#include <cmath>

#include "instruction_set.h"
#include "portability.h"
#include "vector_maths.h"

namespace tfdetect {
namespace {

TFDETECT_INLINE float Sum(const Float8& v) {
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

template <typename T>
TFDETECT_INLINE void LayerNormLoop(const T* x, const float* weight, const float* bias,
                                   float epsilon, int64_t rows, int64_t channels, float* scratch,
                                   T* y) {
  const int64_t whole = channels / 8 * 8;
  const float count = static_cast<float>(channels);
  for (int64_t row = 0; row < rows; ++row, x += channels, y += channels) {
    Float8 sums[2] = {};
    float sum = 0.0f;
    for (int64_t i = 0; i < whole; i += 8) {
      Float8 value;
      LoadFloats(x + i, value);
      Store(value, scratch + i);
      sums[i / 8 & 1] += value;
    }
    for (int64_t i = whole; i < channels; ++i) sum += scratch[i] = ToFloat(x[i]);
    const float mean = (sum + Sum(sums[0] + sums[1])) / count;
    // The mean of large values is rounded by more than they may differ: what it misses is found by
    // the mean of the differences.
    sums[0] = sums[1] = Float8{};
    sum = 0.0f;
    for (int64_t i = 0; i < whole; i += 8) {
      Float8 value;
      Load(scratch + i, value);
      value -= mean;
      Store(value, scratch + i);
      sums[i / 8 & 1] += value;
    }
    for (int64_t i = whole; i < channels; ++i) sum += scratch[i] -= mean;
    const float rest = (sum + Sum(sums[0] + sums[1])) / count;
    sums[0] = sums[1] = Float8{};
    sum = 0.0f;
    for (int64_t i = 0; i < whole; i += 8) {
      Float8 value;
      Load(scratch + i, value);
      value -= rest;
      Store(value, scratch + i);
      sums[i / 8 & 1] += value * value;
    }
    for (int64_t i = whole; i < channels; ++i) {
      scratch[i] -= rest;
      sum += scratch[i] * scratch[i];
    }
    const float variance = (sum + Sum(sums[0] + sums[1])) / count;
    const float scale = 1.0f / std::sqrt(variance + epsilon);
    for (int64_t i = 0; i < whole; i += 8) {
      Float8 value, w, b;
      Load(scratch + i, value);
      Load(weight + i, w);
      Load(bias + i, b);
      StoreFloats(value * scale * w + b, y + i);
    }
    for (int64_t i = whole; i < channels; ++i)
      FromFloat(scratch[i] * scale * weight[i] + bias[i], y + i);
  }
}
template <typename T>
const auto LayerNormBest = BestVersion<LayerNormLoop<T>>();

template <typename T>
TFDETECT_INLINE void GeluLoop(const T* x, int64_t n, T* y) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    Float8 value;
    LoadFloats(x + i, value);
    Gelu(value, value);
    StoreFloats(value, y + i);
  }
  for (; i < n; ++i) {
    Float8 value = Float8{} + ToFloat(x[i]);
    Gelu(value, value);
    FromFloat(value[0], y + i);
  }
}
template <typename T>
const auto GeluBest = BestVersion<GeluLoop<T>>();

}  // namespace

template <typename T>
void LayerNorm(const T* x, const float* weight, const float* bias, float epsilon, int64_t rows,
               int64_t channels, float* scratch, T* y) {
  LayerNormBest<T>(x, weight, bias, epsilon, rows, channels, scratch, y);
}

template <typename T>
void GeluOf(const T* x, int64_t n, T* y) {
  GeluBest<T>(x, n, y);
}

#define TFDETECT_INSTANTIATE(T)                                                           \
  template void LayerNorm<T>(const T*, const float*, const float*, float, int64_t,        \
                             int64_t, float*, T*);                                        \
  template void GeluOf<T>(const T*, int64_t, T*);
TFDETECT_INSTANTIATE(float)
TFDETECT_INSTANTIATE(Half)
TFDETECT_INSTANTIATE(BFloat16)
#undef TFDETECT_INSTANTIATE

}  // namespace tfdetect
