// ROIAlign of rotated boxes and its gradient on the CPU; see roi_align_rotated_grid.h for the
// meaning.
#ifndef TFDETECT_ROI_ALIGN_ROTATED_H_
#define TFDETECT_ROI_ALIGN_ROTATED_H_

#include <cstdint>
#include <vector>

#include "half.h"
#include "roi_align_rotated_grid.h"

namespace tfdetect {

// Regions [begin, end): features [B, H, W, C], boxes [R, 5], box_indices [R] in [0, B),
// output [R, ph, pw, C]; sums are float32 whatever T (float, Half or BFloat16) is.
template <typename T>
void RoiAlignRotated(const RoiAlignShape& shape, const T* features, const float* boxes,
                     const int32_t* box_indices, int64_t begin, int64_t end, T* output);

// The gradient for the features. Each task owns a few rows of one image and goes through the
// regions in their order, so the sums do not depend on the number of threads.
class RoiAlignRotatedGradient {
 public:
  RoiAlignRotatedGradient(const RoiAlignShape& shape, const float* boxes,
                          const int32_t* box_indices, int64_t regions);
  // For every task: grad [R, ph, pw, C], output [B, H, W, C], all of it written.
  int64_t tasks() const { return shape_.images * blocks_; }
  template <typename T>
  void Run(int64_t task, const T* grad, T* output) const;

 private:
  RoiAlignShape shape_;
  int64_t blocks_;                             // of rows, per image
  std::vector<RotatedGrid> grids_;             // per region
  std::vector<std::vector<int64_t>> regions_;  // per task
};

}  // namespace tfdetect

#endif  // TFDETECT_ROI_ALIGN_ROTATED_H_
