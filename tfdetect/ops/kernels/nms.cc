#include "nms.h"

#include <algorithm>
#include <cmath>

#include "box_iou_rotated.h"
#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

// Marks the boxes [begin, n) that overlap box i by more than the threshold. The IoU is a float32
// quotient without a guard: 0 / 0 is not greater than anything.
TFDETECT_INLINE void SuppressLoop(const float* x1, const float* y1, const float* x2,
                                  const float* y2, const float* area, float threshold, int64_t i,
                                  int64_t n, int32_t* suppressed) {
  const float left = x1[i], top = y1[i], right = x2[i], bottom = y2[i], own = area[i];
  for (int64_t j = i + 1; j < n; ++j) {
    const float xx1 = x1[j] > left ? x1[j] : left;
    const float yy1 = y1[j] > top ? y1[j] : top;
    const float xx2 = x2[j] < right ? x2[j] : right;
    const float yy2 = y2[j] < bottom ? y2[j] : bottom;
    float width = xx2 - xx1, height = yy2 - yy1;
    width = width > 0.0f ? width : 0.0f;
    height = height > 0.0f ? height : 0.0f;
    const float intersection = width * height;
    const float iou = intersection / (own + area[j] - intersection);
    suppressed[j] |= iou > threshold ? 1 : 0;
  }
}
const auto Suppress = BestVersion<SuppressLoop>();

}  // namespace

NmsOrder OrderForNms(const float* boxes, int numbers, const float* scores,
                     const int32_t* group_ids, int64_t n) {
  NmsOrder order;
  order.indices.reserve(n);
  for (int64_t i = 0; i < n; ++i) {
    bool candidate = group_ids[i] >= 0 && !std::isnan(scores[i]);
    for (int k = 0; k < numbers; ++k)
      candidate = candidate && std::isfinite(boxes[numbers * i + k]);
    if (candidate) order.indices.push_back(static_cast<int32_t>(i));
  }
  std::sort(order.indices.begin(), order.indices.end(), [&](int32_t a, int32_t b) {
    if (group_ids[a] != group_ids[b]) return group_ids[a] < group_ids[b];
    if (scores[a] != scores[b]) return scores[a] > scores[b];
    return a < b;
  });
  const int64_t candidates = static_cast<int64_t>(order.indices.size());
  for (int64_t begin = 0; begin < candidates;) {
    int64_t end = begin + 1;
    while (end < candidates &&
           group_ids[order.indices[end]] == group_ids[order.indices[begin]])
      ++end;
    order.groups.emplace_back(begin, end);
    begin = end;
  }
  return order;
}

void SuppressGroups(const NmsOrder& order, const float* boxes, double iou_threshold, int64_t begin,
                    int64_t end, bool* keep) {
  const float threshold = NmsThreshold(iou_threshold);
  std::vector<float> coordinates;
  std::vector<int32_t> suppressed;
  for (int64_t g = begin; g < end; ++g) {
    const int32_t* indices = order.indices.data() + order.groups[g].first;
    const int64_t n = order.groups[g].second - order.groups[g].first;
    coordinates.resize(5 * n);
    suppressed.assign(n, 0);
    float* x1 = coordinates.data();
    float *y1 = x1 + n, *x2 = x1 + 2 * n, *y2 = x1 + 3 * n, *area = x1 + 4 * n;
    for (int64_t i = 0; i < n; ++i) {
      const float* box = boxes + 4 * static_cast<int64_t>(indices[i]);
      x1[i] = box[0];
      y1[i] = box[1];
      x2[i] = box[2];
      y2[i] = box[3];
      area[i] = (box[2] - box[0]) * (box[3] - box[1]);
    }
    for (int64_t i = 0; i < n; ++i) {
      if (suppressed[i]) continue;
      keep[indices[i]] = true;
      Suppress(x1, y1, x2, y2, area, threshold, i, n, suppressed.data());
    }
  }
}

void SuppressRotatedGroups(const NmsOrder& order, const float* boxes, double iou_threshold,
                           int64_t begin, int64_t end, bool* keep) {
  const float threshold = NmsRotatedThreshold(iou_threshold);
  std::vector<RotatedShape> shapes;
  std::vector<char> suppressed;
  for (int64_t g = begin; g < end; ++g) {
    const int32_t* indices = order.indices.data() + order.groups[g].first;
    const int64_t n = order.groups[g].second - order.groups[g].first;
    shapes.clear();
    for (int64_t i = 0; i < n; ++i)
      shapes.push_back(MakeRotatedShape(boxes + 5 * static_cast<int64_t>(indices[i])));
    suppressed.assign(n, 0);
    for (int64_t i = 0; i < n; ++i) {
      if (suppressed[i]) continue;
      keep[indices[i]] = true;
      for (int64_t j = i + 1; j < n; ++j)
        if (!suppressed[j]) suppressed[j] = RotatedIou(shapes[i], shapes[j]) > threshold;
    }
  }
}

}  // namespace tfdetect
