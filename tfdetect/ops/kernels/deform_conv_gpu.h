// Deformable convolution and its gradients on the GPU; see deform_conv.h for the meaning.
#ifndef TFDETECT_DEFORM_CONV_GPU_H_
#define TFDETECT_DEFORM_CONV_GPU_H_

#include <cstdint>

#include "deform_conv.h"
#include "gpu.h"

namespace tfdetect {

// Bytes of workspace: samples of as many positions as fit in some 64 MB are held at a time.
int64_t DeformConvWorkspace(const DeformConvShape& shape);

// To y [B, h, w, Cout], all of it written.
const char* LaunchDeformConv(const DeformConvShape& shape, const DeformConvInputs& inputs,
                             void* workspace, float* y, GpuStream stream);

struct DeformConvGradients {
  float* x;
  float* offset;
  float* mask;  // null for v1
  float* weight;
};

// Bytes of workspace: those samples, and the sums of one image's gradient.
int64_t DeformConvGradientWorkspace(const DeformConvShape& shape);

// From dy [B, h, w, Cout], all of `gradients` written. The same bits every time: the sums for x,
// which threads add to in any order, are whole numbers, in steps of 2^-38 of the greatest term.
const char* LaunchDeformConvGradient(const DeformConvShape& shape, const DeformConvInputs& inputs,
                                     const float* dy, void* workspace,
                                     const DeformConvGradients& gradients, GpuStream stream);

}  // namespace tfdetect

#endif  // TFDETECT_DEFORM_CONV_GPU_H_
