// Non-maximum suppression within groups, with the results of torchvision's CPU operator, and of
// Detectron2's for rotated boxes. Both compare a float32 IoU with the threshold in float64.
#ifndef TFDETECT_NMS_H_
#define TFDETECT_NMS_H_

#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

namespace tfdetect {

// A float32 IoU exceeds the float64 threshold just where it exceeds the greatest float32 that is
// not above it, which this is. (0.3 as float32 is greater than 0.3.)
inline float NmsThreshold(double iou_threshold) {
  const float nearest = static_cast<float>(iou_threshold);
  return nearest > iou_threshold ? std::nextafter(nearest, -INFINITY) : nearest;
}

// A float32 IoU is at least the threshold just where it exceeds this, the greatest float32 below.
inline float NmsRotatedThreshold(double iou_threshold) {
  const float nearest = static_cast<float>(iou_threshold);
  return nearest >= iou_threshold ? std::nextafter(nearest, -INFINITY) : nearest;
}

// The candidates by group, then score from high to low, then index. A negative group, a NaN score
// or a coordinate that is not finite is not a candidate.
struct NmsOrder {
  std::vector<int32_t> indices;
  std::vector<std::pair<int64_t, int64_t>> groups;  // [begin, end) of `indices`
};

// A box has so many numbers: 4, or 5 if it is rotated.
NmsOrder OrderForNms(const float* boxes, int numbers, const float* scores,
                     const int32_t* group_ids, int64_t n);

// Sets keep[i] for the boxes of groups [begin, end) that no better kept box of their group
// overlaps by an IoU greater than the threshold; `keep` starts as all false.
void SuppressGroups(const NmsOrder& order, const float* boxes, double iou_threshold, int64_t begin,
                    int64_t end, bool* keep);

// The same for rotated boxes, which an IoU of the threshold itself suppresses.
void SuppressRotatedGroups(const NmsOrder& order, const float* boxes, double iou_threshold,
                           int64_t begin, int64_t end, bool* keep);

}  // namespace tfdetect

#endif  // TFDETECT_NMS_H_
