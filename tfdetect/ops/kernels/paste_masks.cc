#include "paste_masks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

// The samples of all pixels that a mask which spans [low, high] may reach.
struct Samples {
  int64_t begin = 0, end = 0;  // those pixels
  std::vector<int32_t> lower;
  std::vector<float> fraction;
};

Samples SampleAxis(float low, float high, int64_t side, int64_t pixels) {
  Samples samples;
  samples.begin = static_cast<int64_t>(
      std::clamp(std::floor(static_cast<double>(low)) - 1.0, 0.0, static_cast<double>(pixels)));
  samples.end = static_cast<int64_t>(
      std::clamp(std::ceil(static_cast<double>(high)) + 1.0, 0.0, static_cast<double>(pixels)));
  for (int64_t i = samples.begin; i < samples.end; ++i) {
    const MaskSample sample = SampleMask(low, high, side, i);
    samples.lower.push_back(sample.lower);
    samples.fraction.push_back(sample.fraction);
  }
  return samples;
}

TFDETECT_INLINE void PasteRowLoop(const float* upper, const float* lower, float south,
                                  const Samples& columns, float threshold, bool* output) {
  const float north = 1.0f - south;
  for (int64_t i = 0; i < columns.end - columns.begin; ++i) {
    const int32_t c = columns.lower[i];
    const float east = columns.fraction[i], west = 1.0f - east;
    const float value = upper[c] * (north * west) + upper[c + 1] * (north * east) +
                        lower[c] * (south * west) + lower[c + 1] * (south * east);
    output[i] = value >= threshold;
  }
}
const auto PasteRow = BestVersion<PasteRowLoop>();

}  // namespace

void PasteMasks(const float* masks, const float* boxes, int64_t side, int64_t height,
                int64_t width, float threshold, int64_t begin, int64_t end, bool* output) {
  const int64_t stride = side + 2;
  std::vector<float> bordered(stride * stride, 0.0f);
  for (int64_t n = begin; n < end; ++n) {
    bool* image = output + n * height * width;
    std::memset(image, 0, height * width * sizeof(bool));
    const float* box = boxes + 4 * n;
    const float box_width = box[2] - box[0], box_height = box[3] - box[1];
    if (!(std::isfinite(box_width) && std::isfinite(box_height) && box_width > 0.0f &&
          box_height > 0.0f))
      continue;
    for (int64_t y = 0; y < side; ++y)
      std::copy_n(masks + (n * side + y) * side, side, bordered.data() + (y + 1) * stride + 1);
    const Samples rows = SampleAxis(box[1], box[3], side, height);
    const Samples columns = SampleAxis(box[0], box[2], side, width);
    for (int64_t y = rows.begin; y < rows.end; ++y) {
      const float* upper = bordered.data() + rows.lower[y - rows.begin] * stride;
      PasteRow(upper, upper + stride, rows.fraction[y - rows.begin], columns, threshold,
               image + y * width + columns.begin);
    }
  }
}

}  // namespace tfdetect
