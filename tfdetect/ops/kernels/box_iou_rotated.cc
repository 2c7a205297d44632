#include "box_iou_rotated.h"

#include <vector>

namespace tfdetect {

void BoxIouRotated(const float* boxes1, int64_t n, const float* boxes2, int64_t begin, int64_t end,
                   int64_t m, float* iou) {
  std::vector<RotatedShape> others;
  others.reserve(end - begin);
  for (int64_t j = begin; j < end; ++j) others.push_back(MakeRotatedShape(boxes2 + 5 * j));
  for (int64_t i = 0; i < n; ++i) {
    const RotatedShape box = MakeRotatedShape(boxes1 + 5 * i);
    float* row = iou + i * m + begin;
    for (const RotatedShape& other : others) *row++ = RotatedIou(box, other);
  }
}

}  // namespace tfdetect
