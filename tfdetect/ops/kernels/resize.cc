#include "resize.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

// As many values are computed at once: in loops of any number of turns compilers handle the rest
// value by value.
constexpr int64_t kLanes = 16;
// Pixels of a row, and values of a column's row, whose sums stay in the cache.
constexpr int64_t kPixels = 64;
constexpr int64_t kValues = 64;

int64_t RoundUp(int64_t number, int64_t multiple) {
  return (number + multiple - 1) / multiple * multiple;
}

// The bytes of `row` at each offset, side by side: four of each pixel, of which the next one
// overwrites what it has no channels for.
TFDETECT_INLINE void Gather(const uint8_t* row, const int64_t* offsets, int64_t pixels,
                            int64_t channels, uint8_t* gathered) {
  for (int64_t i = 0; i < pixels; ++i) std::memcpy(gathered + i * channels, row + offsets[i], 4);
}

// A filtered row of at most four channels, of offsets [pixels] and weights [taps, stride]. `row` is
// read for three bytes beyond its pixels, `output` written up to a multiple of kLanes.
TFDETECT_INLINE void FilterRowLoop(const int64_t* offsets, const int32_t* weights, int64_t taps,
                                   int64_t stride, int64_t pixels, int64_t channels,
                                   const uint8_t* row, uint8_t* output) {
  uint8_t first[4 * kPixels + 4] = {}, second[4 * kPixels + 4] = {};
  int32_t sums[4 * kPixels];
  for (int64_t x = 0; x < pixels; x += kPixels) {
    const int64_t here = std::min(kPixels, pixels - x), values = here * channels;
    const int32_t* weight = weights + x * channels;
    uint8_t* to = output + x * channels;
    Gather(row, offsets + x, here, channels, first);
    if (taps == 2) {
      Gather(row + channels, offsets + x, here, channels, second);
      for (int64_t i = 0; i < values; i += kLanes)
        for (int64_t j = i; j < i + kLanes; ++j)
          to[j] = ResizeClip(kResizeHalf + weight[j] * first[j] + weight[stride + j] * second[j]);
      continue;
    }
    for (int64_t i = 0; i < values; i += kLanes)
      for (int64_t j = i; j < i + kLanes; ++j) sums[j] = kResizeHalf + weight[j] * first[j];
    for (int64_t t = 1; t < taps; ++t) {
      weight += stride;
      Gather(row + t * channels, offsets + x, here, channels, first);
      for (int64_t i = 0; i < values; i += kLanes)
        for (int64_t j = i; j < i + kLanes; ++j) sums[j] += weight[j] * first[j];
    }
    for (int64_t i = 0; i < values; i += kLanes)
      for (int64_t j = i; j < i + kLanes; ++j) to[j] = ResizeClip(sums[j]);
  }
}
const auto FilterRow = BestVersion<FilterRowLoop>();

// The same of any number of channels, for images that nobody has.
void FilterRowOfMany(const int64_t* offsets, const int32_t* weights, int64_t taps, int64_t stride,
                     int64_t pixels, int64_t channels, const uint8_t* row, uint8_t* output) {
  for (int64_t i = 0; i < pixels * channels; ++i) {
    const uint8_t* from = row + offsets[i / channels] + i % channels;
    int32_t sum = kResizeHalf;
    for (int64_t t = 0; t < taps; ++t) sum += weights[t * stride + i] * from[t * channels];
    output[i] = ResizeClip(sum);
  }
}

template <int64_t kSize>
TFDETECT_INLINE void FilterValues(const int32_t* weights, int64_t count, const uint8_t* const* rows,
                                  int64_t at, uint8_t* output) {
  int32_t sums[kSize];
  for (int64_t j = 0; j < kSize; ++j) sums[j] = kResizeHalf;
  for (int64_t t = 0; t < count; ++t) {
    const uint8_t* row = rows[t] + at;
    const int32_t weight = weights[t];
    for (int64_t j = 0; j < kSize; ++j) sums[j] += weight * row[j];
  }
  for (int64_t j = 0; j < kSize; ++j) output[at + j] = ResizeClip(sums[j]);
}

// An output row of `size` values, of `count` rows.
TFDETECT_INLINE void FilterColumnsLoop(const int32_t* weights, int64_t count,
                                       const uint8_t* const* rows, int64_t size, uint8_t* output) {
  int64_t i = 0;
  for (; i + kValues <= size; i += kValues) FilterValues<kValues>(weights, count, rows, i, output);
  if (i < size && size >= kValues) {  // the last ones once more
    FilterValues<kValues>(weights, count, rows, size - kValues, output);
  } else {
    for (; i < size; ++i) FilterValues<1>(weights, count, rows, i, output);
  }
}
const auto FilterColumns = BestVersion<FilterColumnsLoop>();

}  // namespace

ImageResize::Axis::Axis(int64_t in, int64_t out)
    : stride(ResizeTaps(in, out)), first(out), count(out), weights(out * stride) {
  for (int64_t o = 0; o < out; ++o)
    ResizeWeights(in, out, o, &first[o], &count[o], &weights[o * stride]);
}

ImageResize::ImageResize(int64_t height, int64_t width, int64_t channels, int64_t new_height,
                         int64_t new_width)
    : height_(height),
      width_(width),
      channels_(channels),
      new_height_(new_height),
      new_width_(new_width),
      down_(height, new_height) {
  const Axis across(width, new_width);
  taps_ = *std::max_element(across.count.begin(), across.count.end());
  values_ = RoundUp(new_width * channels, kLanes);
  offsets_.resize(new_width);
  weights_.assign(taps_ * values_, 0);
  for (int64_t x = 0; x < new_width; ++x) {
    offsets_[x] = across.first[x] * channels;
    for (int64_t t = 0; t < across.count[x]; ++t)
      std::fill_n(&weights_[t * values_ + x * channels], channels,
                  across.weights[x * across.stride + t]);
  }
}

void ImageResize::Rows(const uint8_t* image, int64_t row_stride, int64_t begin, int64_t end,
                       uint8_t* output) const {
  const int64_t row_size = new_width_ * channels_;
  // Inputs of weight 0 may lie beyond a row.
  std::vector<uint8_t> padded((width_ + taps_) * channels_ + 4);
  // Filtered rows, each in the place of one that is not needed any more.
  const int64_t kept = *std::max_element(down_.count.begin(), down_.count.end());
  std::vector<uint8_t> filtered(kept * values_);
  std::vector<const uint8_t*> rows(kept);
  int64_t next = begin < end ? down_.first[begin] : 0;
  for (int64_t y = begin; y < end; ++y) {
    const int64_t first = down_.first[y], count = down_.count[y];
    for (next = std::max(next, first); next < first + count; ++next) {
      std::memcpy(padded.data(), image + next * row_stride, width_ * channels_);
      (channels_ <= 4 ? FilterRow : FilterRowOfMany)(
          offsets_.data(), weights_.data(), taps_, values_, new_width_, channels_, padded.data(),
          &filtered[next % kept * values_]);
    }
    for (int64_t t = 0; t < count; ++t) rows[t] = &filtered[(first + t) % kept * values_];
    FilterColumns(&down_.weights[y * down_.stride], count, rows.data(), row_size,
                  output + y * row_size);
  }
}

}  // namespace tfdetect

// For image_resize.py, which calls it without TensorFlow: a whole output. Returns whether there was
// memory for it.
extern "C" __attribute__((visibility("default"))) bool tfdetect_resize_image(
    const uint8_t* image, int64_t row_stride, int64_t height, int64_t width, int64_t channels,
    int64_t new_height, int64_t new_width, uint8_t* output) {
  try {
    const tfdetect::ImageResize resize(height, width, channels, new_height, new_width);
    resize.Rows(image, row_stride, 0, new_height, output);
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}
