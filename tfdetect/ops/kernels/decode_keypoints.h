// Keypoint heat maps to coordinates, as Detectron2's heatmaps_to_keypoints does.
#ifndef TFDETECT_DECODE_KEYPOINTS_H_
#define TFDETECT_DECODE_KEYPOINTS_H_

#include <cstdint>

namespace tfdetect {

// The maps of a box are resized to its size in whole pixels; no further than this per side.
constexpr float kMaxKeypointSide = 16384.0f;

// Heatmaps [N, side, side, keypoints] (logits), XYXY boxes [N, 4] in pixels of the image, output
// [N, keypoints, 4] with columns x, y (pixels of the image), logit, score. [begin, end) are those
// of the N * keypoints rows of the output that this call computes.
//
// The map is resized bicubically (a = -0.75, borders repeated, pixel centres aligned) to
// ceil(height) x ceil(width), and the first greatest pixel is taken; its centre is scaled back by
// height / ceil(height). The score is a softmax at that pixel with the sum over the unresized map.
// A box shorter than 1 counts as 1. A side above kMaxKeypointSide is resized to just that many
// pixels, each of which then stands for more than one. A box that is not finite gives zeros.
// NaN logits are never the greatest; a map of nothing else gives pixel 0.
void DecodeKeypoints(const float* heatmaps, const float* boxes, int64_t side, int64_t keypoints,
                     int64_t begin, int64_t end, float* output);

}  // namespace tfdetect

#endif  // TFDETECT_DECODE_KEYPOINTS_H_
