// Bilinear samples of feature maps at points, and their gradient, on the GPU; see
// point_sample_corners.h for the meaning.
#ifndef TFDETECT_POINT_SAMPLE_GPU_H_
#define TFDETECT_POINT_SAMPLE_GPU_H_

#include <cstdint>

#include "gpu.h"
#include "point_sample_corners.h"

namespace tfdetect {

// features [maps, height, width, channels] and output [rows, points, channels] of one type; a row
// of a map that is not there is zeros. All of output is written.
const char* LaunchPointSample(const PointSampleShape& shape, FloatType type, const void* features,
                              const float* points, const int32_t* map_indices, int64_t rows,
                              void* output, GpuStream stream);

// grad [rows, points, channels] to output [maps, height, width, channels], all of it written: every
// location gathers from the points in their order, so that the sums are the same every time, and
// the CPU's.
const char* LaunchPointSampleGradient(const PointSampleShape& shape, FloatType type,
                                      const void* grad, const float* points,
                                      const int32_t* map_indices, int64_t rows, void* output,
                                      GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_POINT_SAMPLE_GPU_H_
