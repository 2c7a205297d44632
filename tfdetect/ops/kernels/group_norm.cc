#include "group_norm.h"

#include <algorithm>

#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

// Locations that are summed in registers: as many as the nearest cache holds of 256 channels.
constexpr int64_t kLocations = 16;

template <typename T>
TFDETECT_INLINE void ChannelSumsLoop(const T* x, int64_t count, int64_t channels,
                                     const float* centre, float* sums) {
  std::fill_n(sums, channels, 0.0f);
  for (int64_t begin = 0; begin < count; begin += kLocations) {
    const int64_t end = std::min(count, begin + kLocations);
    for (int64_t c = 0; c < channels; c += 8) {
      Float8 sum, value, middle = {};
      Load(sums + c, sum);
      if (centre) Load(centre + c, middle);
      for (int64_t i = begin; i < end; ++i) {
        LoadFloats(x + i * channels + c, value);
        value -= middle;
        sum += centre ? value * value : value;
      }
      Store(sum, sums + c);
    }
  }
}
template <typename T>
const auto BestChannelSums = BestVersion<ChannelSumsLoop<T>>();

template <typename T>
TFDETECT_INLINE void NormalizeLoop(const GroupNormOutput& o, const T* x, const T* residual,
                                   int64_t count, int64_t channels, T* y) {
  for (int64_t begin = 0; begin < count; begin += kLocations) {
    const int64_t end = std::min(count, begin + kLocations);
    for (int64_t c = 0; c < channels; c += 8) {
      Float8 mean, scale, bias, value, other;
      Load(o.mean + c, mean);
      Load(o.scale + c, scale);
      Load(o.bias + c, bias);
      for (int64_t i = begin * channels + c; i < end * channels; i += channels) {
        LoadFloats(x + i, value);
        value = (value - mean) * scale + bias;
        if (residual) {
          LoadFloats(residual + i, other);
          value += other;
        }
        if (o.relu) value = value < Float8{} ? Float8{} : value;  // NaN stays NaN
        StoreFloats(value, y + i);
      }
    }
  }
}
template <typename T>
const auto BestNormalize = BestVersion<NormalizeLoop<T>>();

}  // namespace

template <typename T>
void ChannelSums(const T* x, int64_t count, int64_t channels, const float* centre, float* sums) {
  BestChannelSums<T>(x, count, channels, centre, sums);
}
template void ChannelSums(const float*, int64_t, int64_t, const float*, float*);
template void ChannelSums(const BFloat16*, int64_t, int64_t, const float*, float*);

template <typename T>
void Normalize(const GroupNormOutput& output, const T* x, const T* residual, int64_t count,
               int64_t channels, T* y) {
  BestNormalize<T>(output, x, residual, count, channels, y);
}
template void Normalize(const GroupNormOutput&, const float*, const float*, int64_t, int64_t,
                        float*);
template void Normalize(const GroupNormOutput&, const BFloat16*, const BFloat16*, int64_t, int64_t,
                        BFloat16*);

// In double: a float32 sum of half a million terms has a relative error of 1e-4.
void GroupMeans(const float* sums, int64_t rows, int64_t channels, int64_t groups, double count,
                float* means) {
  const int64_t width = channels / groups;
  for (int64_t first = 0; first < channels; first += width) {
    double sum = 0;
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t c = first; c < first + width; ++c) sum += sums[row * channels + c];
    std::fill_n(means + first, width, static_cast<float>(sum / (count * width)));
  }
}

}  // namespace tfdetect
