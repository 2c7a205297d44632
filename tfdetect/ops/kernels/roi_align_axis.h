// Where ROIAlign samples along one axis, as weights of rows (or columns).
//
// ROIAlign (Mask R-CNN, arXiv:1703.06870, section 3) averages bilinear samples on a regular grid.
// Its border rule treats the axes separately too, so a region's output is Wy * F * Wx^T: per axis
// each output bin is a weighted sum of a few rows. The weights are those of torchvision's
// roi_align, whose float32 steps are followed in their order, since a position decides which rows
// are touched and a length how many samples there are.
#ifndef TFDETECT_ROI_ALIGN_AXIS_H_
#define TFDETECT_ROI_ALIGN_AXIS_H_

#include <cstdint>
#include <vector>

namespace tfdetect {

struct AxisEntry {
  int32_t index;  // row or column of the features
  int32_t bin;    // of the output
  float weight;   // 1 / number of samples per bin is included
};

struct RoiAxes {
  std::vector<AxisEntry> rows;     // by row, then bin
  std::vector<AxisEntry> columns;  // by bin
};

struct RoiAlignShape {
  int64_t images, height, width, channels;
  int32_t pooled_height, pooled_width;
  float spatial_scale;     // features' pixels per pixel of the input image
  int32_t sampling_ratio;  // samples per bin and axis; 0 or less: as many as the bin is long
  bool aligned;            // shifted by half a pixel; else at least one pixel long
  const int32_t* sizes;    // [images, 2], rows and columns at the top left that are each image's own
                           // features, which end there; null: all are
};

// Boxes are cut off at this many pixels of the features from the origin: far beyond any of them,
// and near enough that float32 tells neighbouring samples apart.
constexpr float kFarthest = 16384.0f;

// Fills `axes` for one XYXY box in pixels of an input image; empty for a box that is not finite.
void SampleRoi(const RoiAlignShape& shape, const float* box, int32_t image, RoiAxes* axes);

}  // namespace tfdetect

#endif  // TFDETECT_ROI_ALIGN_AXIS_H_
