// Weighted sums of the channels of pixels, which RoIAlign is made of.
#ifndef TFDETECT_POOLED_SUMS_H_
#define TFDETECT_POOLED_SUMS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "half.h"
#include "instruction_set.h"
#include "roi_align_axis.h"

namespace tfdetect {

// Features [N, C] at the entries' indices summed into their bins: sums [bins, C]. Entries of one bin
// follow each other; bins without one stay as they are.
template <typename T>
TFDETECT_INLINE void SumEntriesLoop(const T* features, const AxisEntry* entries, int64_t num_entries,
                                int64_t channels, float* sums) {
  int64_t e = 0;
  while (e < num_entries) {
    const int32_t bin = entries[e].bin;
    int64_t end = e + 1;
    while (end < num_entries && entries[end].bin == bin) ++end;
    float* sum = sums + bin * channels;
    int64_t c = 0;
    for (; c + 32 <= channels; c += 32) {
      Float8 s0 = {}, s1 = {}, s2 = {}, s3 = {}, value;
      for (int64_t i = e; i < end; ++i) {
        const T* pixel = features + entries[i].index * channels + c;
        const float weight = entries[i].weight;
        LoadFloats(pixel, value);
        s0 += weight * value;
        LoadFloats(pixel + 8, value);
        s1 += weight * value;
        LoadFloats(pixel + 16, value);
        s2 += weight * value;
        LoadFloats(pixel + 24, value);
        s3 += weight * value;
      }
      Store(s0, sum + c);
      Store(s1, sum + c + 8);
      Store(s2, sum + c + 16);
      Store(s3, sum + c + 24);
    }
    for (; c + 8 <= channels; c += 8) {
      Float8 s = {}, value;
      for (int64_t i = e; i < end; ++i) {
        LoadFloats(features + entries[i].index * channels + c, value);
        s += entries[i].weight * value;
      }
      Store(s, sum + c);
    }
    for (; c < channels; ++c) {
      float s = 0.0f;
      for (int64_t i = e; i < end; ++i)
        s += entries[i].weight * ToFloat(features[entries[i].index * channels + c]);
      sum[c] = s;
    }
    e = end;
  }
}

template <typename T>
inline const auto SumEntries = BestVersion<SumEntriesLoop<T>>();

// to += weight * from
template <typename T>
TFDETECT_INLINE void AddLoop(float weight, const T* from, int64_t n, float* to) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    Float8 value, sum;
    LoadFloats(from + i, value);
    Load(to + i, sum);
    sum += weight * value;
    Store(sum, to + i);
  }
  for (; i < n; ++i) to[i] += weight * ToFloat(from[i]);
}

template <typename T>
inline const auto AddScaled = BestVersion<AddLoop<T>>();

template <typename T>
TFDETECT_INLINE void ConvertLoop(const float* from, int64_t n, T* to) {
  for (int64_t i = 0; i < n; ++i) FromFloat(from[i], to + i);
}
template <typename T>
inline const auto Convert = BestVersion<ConvertLoop<T>>();

// Where sums are kept: in the output itself if that is float, else beside it until Finish.
class Sums {
 public:
  explicit Sums(int64_t) {}
  float* Begin(float* output, int64_t n) {
    std::fill(output, output + n, 0.0f);
    return output;
  }
  void Finish(float*, int64_t) {}
};
template <typename T>
class NarrowSums {
 public:
  explicit NarrowSums(int64_t n) : sums_(n) {}
  float* Begin(T*, int64_t n) {
    std::fill(sums_.begin(), sums_.begin() + n, 0.0f);
    return sums_.data();
  }
  void Finish(T* output, int64_t n) { Convert<T>(sums_.data(), n, output); }

 private:
  std::vector<float> sums_;
};
template <typename T>
struct SumsOf {
  typedef NarrowSums<T> Type;
};
template <>
struct SumsOf<float> {
  typedef Sums Type;
};

}  // namespace tfdetect

#endif  // TFDETECT_POOLED_SUMS_H_
