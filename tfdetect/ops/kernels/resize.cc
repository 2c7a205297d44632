#include "resize.h"

#include <cstring>

#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

typedef uint8_t Byte4 __attribute__((vector_size(4)));
typedef int32_t Int4 __attribute__((vector_size(16)));

// Three channels are computed as four lanes, the fourth of no use: `padded` may be read one byte
// beyond the row.
TFDETECT_INLINE void ResizeRow3Loop(const ResizeAxis& axis, const uint8_t* padded, int64_t outputs,
                                    uint8_t* output) {
  const int32_t* weights = axis.weights.data();
  for (int64_t x = 0; x < outputs; ++x, weights += axis.stride) {
    const uint8_t* pixel = padded + 3 * static_cast<int64_t>(axis.first[x]);
    const int32_t count = axis.count[x];
    Int4 sum = {kResizeHalf, kResizeHalf, kResizeHalf, kResizeHalf};
    for (int32_t t = 0; t < count; ++t) {
      Byte4 bytes;
      Load(pixel + 3 * t, bytes);
      sum += __builtin_convertvector(bytes, Int4) * weights[t];
    }
    for (int c = 0; c < 3; ++c) output[3 * x + c] = ResizeClip(sum[c]);
  }
}
const auto ResizeRow3 = BestVersion<ResizeRow3Loop>();

void ResizeRowAny(const ResizeAxis& axis, const uint8_t* row, int64_t channels, int64_t outputs,
                  uint8_t* output) {
  for (int64_t x = 0; x < outputs; ++x) {
    const int32_t* weights = axis.weights.data() + x * axis.stride;
    const uint8_t* pixel = row + axis.first[x] * channels;
    for (int64_t c = 0; c < channels; ++c) {
      int32_t sum = kResizeHalf;
      for (int32_t t = 0; t < axis.count[x]; ++t) sum += weights[t] * pixel[t * channels + c];
      output[x * channels + c] = ResizeClip(sum);
    }
  }
}

TFDETECT_INLINE void ResizeColumnLoop(const int32_t* weights, int32_t count, const uint8_t* rows,
                                      int64_t row_size, uint8_t* output) {
  constexpr int64_t kBlock = 64;
  int64_t i = 0;
  for (; i + kBlock <= row_size; i += kBlock) {
    int32_t sums[kBlock];
    for (int64_t j = 0; j < kBlock; ++j) sums[j] = kResizeHalf;
    for (int32_t t = 0; t < count; ++t) {
      const uint8_t* row = rows + t * row_size + i;
      const int32_t weight = weights[t];
      for (int64_t j = 0; j < kBlock; ++j) sums[j] += weight * row[j];
    }
    for (int64_t j = 0; j < kBlock; ++j) output[i + j] = ResizeClip(sums[j]);
  }
  for (; i < row_size; ++i) {
    int32_t sum = kResizeHalf;
    for (int32_t t = 0; t < count; ++t) sum += weights[t] * rows[t * row_size + i];
    output[i] = ResizeClip(sum);
  }
}
const auto ResizeColumn = BestVersion<ResizeColumnLoop>();

}  // namespace

ResizeAxis MakeResizeAxis(int64_t in, int64_t out) {
  ResizeAxis axis;
  axis.stride = ResizeTaps(in, out);
  axis.first.resize(out);
  axis.count.resize(out);
  axis.weights.assign(out * axis.stride, 0);
  for (int64_t o = 0; o < out; ++o)
    ResizeWeights(in, out, o, &axis.first[o], &axis.count[o], &axis.weights[o * axis.stride]);
  return axis;
}

void ResizeRows(const ResizeAxis& axis, const uint8_t* image, int64_t width, int64_t channels,
                int64_t begin, int64_t end, uint8_t* output) {
  const int64_t outputs = static_cast<int64_t>(axis.first.size());
  std::vector<uint8_t> padded(channels == 3 ? 3 * width + 1 : 0);
  for (int64_t y = begin; y < end; ++y) {
    const uint8_t* row = image + y * width * channels;
    uint8_t* to = output + y * outputs * channels;
    if (channels == 3) {
      std::memcpy(padded.data(), row, 3 * width);
      ResizeRow3(axis, padded.data(), outputs, to);
    } else {
      ResizeRowAny(axis, row, channels, outputs, to);
    }
  }
}

void ResizeColumns(const ResizeAxis& axis, const uint8_t* image, int64_t row_size, int64_t begin,
                   int64_t end, uint8_t* output) {
  for (int64_t y = begin; y < end; ++y)
    ResizeColumn(axis.weights.data() + y * axis.stride, axis.count[y],
                 image + axis.first[y] * row_size, row_size, output + y * row_size);
}

}  // namespace tfdetect
