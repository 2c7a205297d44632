// Intersection over union of rotated boxes; see tfdetect/ops/rotated_iou.py for the meaning.
#ifndef TFDETECT_BOX_IOU_ROTATED_H_
#define TFDETECT_BOX_IOU_ROTATED_H_

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace tfdetect {

// A box (x centre, y centre, width, height, angle in degrees) as its IoU needs it; of no area if
// it overlaps nothing.
struct RotatedShape {
  double x, y, half_width, half_height, cos, sin, area, radius;
};

TFDETECT_HOST_DEVICE RotatedShape MakeRotatedShape(const float* box) {
  RotatedShape shape = {0, 0, 0, 0, 1, 0, 0, 0};
  // Of NaN the difference is NaN, too.
  for (int i = 0; i < 5; ++i)
    if (!(box[i] - box[i] == 0.0f)) return shape;
  if (!(box[2] * box[3] >= 1e-14 && box[2] * box[2] + box[3] * box[3] > 1e-8)) return shape;
  shape.x = box[0];
  shape.y = box[1];
  shape.half_width = 0.5 * fabs(static_cast<double>(box[2]));
  shape.half_height = 0.5 * fabs(static_cast<double>(box[3]));
  const double theta = box[4] * 0.01745329251;
  shape.cos = cos(theta);
  shape.sin = sin(theta);
  shape.area = 4.0 * shape.half_width * shape.half_height;
  shape.radius = sqrt(shape.half_width * shape.half_width + shape.half_height * shape.half_height);
  return shape;
}

TFDETECT_HOST_DEVICE double Limit(double value, double most) {
  return value < -most ? -most : value > most ? most : value;
}

// The integral from x0 to x1, within [-a, a], of the edge's y limited to [-b, b].
TFDETECT_HOST_DEVICE double IntegralOfEdge(double x0, double y0, double x1, double y1, double a,
                                           double b) {
  const double begin = Limit(x0, a), end = Limit(x1, a);
  if (begin == end) return 0.0;
  if (begin != x0 || end != x1) {
    const double slope = (y1 - y0) / (x1 - x0);
    y0 += (begin - x0) * slope;
    y1 += (end - x1) * slope;
  }
  const double low = y0 < y1 ? y0 : y1, high = y0 < y1 ? y1 : y0;
  double mean;
  if (low >= -b && high <= b) {
    mean = 0.5 * (low + high);
  } else if (low >= b) {
    mean = b;
  } else if (high <= -b) {
    mean = -b;
  } else {
    const double low_within = Limit(low, b), high_within = Limit(high, b);
    const double above = high - high_within, below = low_within - low;
    mean = (b * (above - below) + 0.5 * (high_within - low_within) * (high_within + low_within)) /
           (high - low);
  }
  return (end - begin) * mean;
}

// The area that two boxes share: the first's boundary, integrated within the second.
TFDETECT_HOST_DEVICE double SharedArea(const RotatedShape& first, const RotatedShape& second) {
  const double dx = first.x - second.x, dy = first.y - second.y;
  const double reach = first.radius + second.radius;
  if (dx * dx + dy * dy >= reach * reach) return 0.0;
  const double u = dx * second.cos - dy * second.sin, v = dx * second.sin + dy * second.cos;
  const double cos = first.cos * second.cos + first.sin * second.sin;
  const double sin = first.sin * second.cos - first.cos * second.sin;
  const double width_x = cos * first.half_width, width_y = -sin * first.half_width;
  const double height_x = sin * first.half_height, height_y = cos * first.half_height;
  const double x[4] = {u - width_x - height_x, u + width_x - height_x, u + width_x + height_x,
                       u - width_x + height_x};
  const double y[4] = {v - width_y - height_y, v + width_y - height_y, v + width_y + height_y,
                       v - width_y + height_y};
  double area = 0.0;
  for (int i = 0; i < 4; ++i)
    area += IntegralOfEdge(x[i], y[i], x[(i + 1) % 4], y[(i + 1) % 4], second.half_width,
                           second.half_height);
  return fabs(area);
}

TFDETECT_HOST_DEVICE float RotatedIou(const RotatedShape& first, const RotatedShape& second) {
  const double smaller = first.area < second.area ? first.area : second.area;
  double shared = SharedArea(first, second);
  if (!(shared > 1e-9 * smaller)) return 0.0f;  // rounding, or a box of no area
  shared = shared < smaller ? shared : smaller;
  return static_cast<float>(shared / (first.area + second.area - shared));
}

// boxes1 [N, 5] with boxes2 [begin, end) of [M, 5] to those columns of iou [N, M].
void BoxIouRotated(const float* boxes1, int64_t n, const float* boxes2, int64_t begin, int64_t end,
                   int64_t m, float* iou);

}  // namespace tfdetect

#endif  // TFDETECT_BOX_IOU_ROTATED_H_
