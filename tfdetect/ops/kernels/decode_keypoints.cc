#include "decode_keypoints.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "bicubic.h"
#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

std::vector<BicubicTaps> MakeTaps(int64_t in, int64_t out) {
  std::vector<BicubicTaps> taps(out);
  for (int64_t o = 0; o < out; ++o) taps[o] = MakeBicubicTaps(in, out, o);
  return taps;
}

TFDETECT_INLINE void CombineRowsLoop(const float* const rows[4], const float weights[4], int64_t n,
                                     float* output, float* greatest) {
  const float w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
  const float *r0 = rows[0], *r1 = rows[1], *r2 = rows[2], *r3 = rows[3];
  float best[8];
  for (int j = 0; j < 8; ++j) best[j] = -std::numeric_limits<float>::infinity();
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int j = 0; j < 8; ++j) {
      const float value = w0 * r0[i + j] + w1 * r1[i + j] + w2 * r2[i + j] + w3 * r3[i + j];
      output[i + j] = value;
      best[j] = value > best[j] ? value : best[j];
    }
  }
  for (; i < n; ++i) {
    const float value = w0 * r0[i] + w1 * r1[i] + w2 * r2[i] + w3 * r3[i];
    output[i] = value;
    best[0] = value > best[0] ? value : best[0];
  }
  for (int j = 1; j < 8; ++j) best[0] = best[j] > best[0] ? best[j] : best[0];
  *greatest = best[0];
}
const auto CombineRows = BestVersion<CombineRowsLoop>();

// Resizes maps to the size of one box; kept between the maps of a box.
class Resizer {
 public:
  Resizer(int64_t side, float width, float height)
      : side_(side),
        columns_(static_cast<int64_t>(std::min(std::ceil(width), kMaxKeypointSide))),
        rows_(static_cast<int64_t>(std::min(std::ceil(height), kMaxKeypointSide))),
        column_taps_(MakeTaps(side, columns_)),
        row_taps_(MakeTaps(side, rows_)),
        stretched_(side * columns_),
        is_stretched_(side),
        bounds_(rows_),
        line_(columns_) {}

  int64_t columns() const { return columns_; }
  int64_t rows() const { return rows_; }

  struct Greatest {
    float value = std::numeric_limits<float>::quiet_NaN();
    int64_t x = 0, y = 0;
  };

  // A line of the resized map at a time, so that memory does not grow with its area, and only
  // lines that can hold the greatest value: few of them in a map with a peak.
  Greatest FirstGreatest(const float* map) {
    map_ = map;
    std::fill(is_stretched_.begin(), is_stretched_.end(), false);
    BoundLines();
    const int64_t likely = std::max_element(bounds_.begin(), bounds_.end()) - bounds_.begin();
    const float reached = ComputeLine(likely);
    Greatest best;
    for (int64_t y = 0; y < rows_; ++y) {
      if (bounds_[y] < reached || bounds_[y] < best.value) continue;
      const float greatest = ComputeLine(y);
      if (greatest <= best.value) continue;
      const auto found = std::find(line_.begin(), line_.end(), greatest);
      if (found != line_.end()) best = {greatest, found - line_.begin(), y};
    }
    return best;
  }

 private:
  // What no value of each line exceeds. Along one axis the negative weights sum to -0.1875 at
  // most, so a stretched row leaves the range of its inputs by no more than that share of it.
  void BoundLines() {
    std::vector<float> low(side_), high(side_);
    for (int64_t y = 0; y < side_; ++y) {
      float least = std::numeric_limits<float>::infinity(), most = -least;
      for (int64_t x = 0; x < side_; ++x) {
        least = std::min(least, map_[y * side_ + x]);
        most = std::max(most, map_[y * side_ + x]);
      }
      const float beyond = 0.1876f * (most - least);
      low[y] = least - beyond;
      high[y] = most + beyond;
    }
    for (int64_t y = 0; y < rows_; ++y) {
      float bound = 0.0f, magnitude = 0.0f;
      for (int t = 0; t < 4; ++t) {
        const float weight = row_taps_[y].weight[t];
        const int32_t row = row_taps_[y].index[t];
        bound += weight * (weight > 0.0f ? high[row] : low[row]);
        magnitude += std::fabs(weight) * std::max(std::fabs(high[row]), std::fabs(low[row]));
      }
      bound += 1e-5f * magnitude;  // far more than rounding
      // NaN where there are infinite logits: then nothing is known.
      bounds_[y] = std::isnan(bound) ? std::numeric_limits<float>::infinity() : bound;
    }
  }

  // Fills `line_` with row y of the resized map; returns its greatest value.
  float ComputeLine(int64_t y) {
    const float* sources[4];
    for (int t = 0; t < 4; ++t) sources[t] = Stretched(row_taps_[y].index[t]);
    float greatest;
    CombineRows(sources, row_taps_[y].weight, columns_, line_.data(), &greatest);
    return greatest;
  }

  // A row of the map resized along x.
  const float* Stretched(int64_t y) {
    float* stretched = &stretched_[y * columns_];
    if (is_stretched_[y]) return stretched;
    is_stretched_[y] = true;
    const float* row = map_ + y * side_;
    for (int64_t x = 0; x < columns_; ++x) {
      const BicubicTaps& taps = column_taps_[x];
      stretched[x] = taps.weight[0] * row[taps.index[0]] + taps.weight[1] * row[taps.index[1]] +
                     taps.weight[2] * row[taps.index[2]] + taps.weight[3] * row[taps.index[3]];
    }
    return stretched;
  }

  int64_t side_, columns_, rows_;
  const float* map_ = nullptr;
  std::vector<BicubicTaps> column_taps_, row_taps_;
  std::vector<float> stretched_;  // [side, columns]
  std::vector<bool> is_stretched_;
  std::vector<float> bounds_;  // [rows]
  std::vector<float> line_;    // [columns]
};

}  // namespace

void DecodeKeypoints(const float* heatmaps, const float* boxes, int64_t side, int64_t keypoints,
                     int64_t begin, int64_t end, float* output) {
  std::unique_ptr<Resizer> resizer;
  std::vector<float> map(side * side);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t n = i / keypoints, k = i % keypoints;
    const float* box = boxes + 4 * n;
    float* result = output + 4 * i;
    float width = box[2] - box[0], height = box[3] - box[1];
    if (!(std::isfinite(width) && std::isfinite(height))) {
      std::fill_n(result, 4, 0.0f);
      continue;
    }
    width = std::max(width, 1.0f);
    height = std::max(height, 1.0f);
    if (!resizer || k == 0) resizer = std::make_unique<Resizer>(side, width, height);
    for (int64_t p = 0; p < side * side; ++p)
      map[p] = heatmaps[(n * side * side + p) * keypoints + k];
    const Resizer::Greatest best = resizer->FirstGreatest(map.data());
    float total = 0.0f;
    for (const float logit : map) total += std::exp(logit - best.value);
    result[0] = (static_cast<float>(best.x) + 0.5f) * (width / resizer->columns()) + box[0];
    result[1] = (static_cast<float>(best.y) + 0.5f) * (height / resizer->rows()) + box[1];
    result[2] = best.value;
    result[3] = 1.0f / total;
  }
}

}  // namespace tfdetect
