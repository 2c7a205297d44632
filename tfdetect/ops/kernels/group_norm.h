// Group normalisation (Wu and He, 2018), row by row of a map.
#ifndef TFDETECT_GROUP_NORM_H_
#define TFDETECT_GROUP_NORM_H_

#include <cstdint>

#include "half.h"

namespace tfdetect {

// Of `count` locations of x [count, channels], each channel's sum, or with `centre` [channels] that
// of the squares of the distances from it. Channels are a multiple of 8.
template <typename T>
void ChannelSums(const T* x, int64_t count, int64_t channels, const float* centre, float* sums);

// The statistics of groups, for each of their channels: of sums [rows, channels] over `count`
// locations, the mean of each group.
void GroupMeans(const float* sums, int64_t rows, int64_t channels, int64_t groups, double count,
                float* means);

// What one location becomes: (x - mean) * scale + bias, each [channels], plus residual (or null),
// and with `relu` negative values become 0.
struct GroupNormOutput {
  const float *mean, *scale, *bias;
  bool relu;
};

// Of `count` locations of x [count, channels]; y may be x or residual.
template <typename T>
void Normalize(const GroupNormOutput& output, const T* x, const T* residual, int64_t count,
               int64_t channels, T* y);

}  // namespace tfdetect

#endif  // TFDETECT_GROUP_NORM_H_
