// Deformable convolution (v1: arXiv:1703.06211; v2, with a mask: arXiv:1811.11168) and its
// gradients, with the meaning of torchvision's deform_conv2d and Detectron2's layers, in NHWC.
//
// x [B, H, W, Cin]; offset [B, h, w, G * 2 * kh * kw], per deformable group and kernel position a
// (dy, dx) in pixels of x; mask [B, h, w, G * kh * kw], left out for v1; weight
// [kh, kw, Cin / groups, Cout]; output [B, h, w, Cout].
#ifndef TFDETECT_DEFORM_CONV_H_
#define TFDETECT_DEFORM_CONV_H_

#include <cstdint>
#include <vector>

namespace tfdetect {

struct DeformConvShape {
  int64_t images, height, width, channels;
  int64_t out_height, out_width, out_channels;
  int64_t kernel_height, kernel_width;
  int64_t stride, padding, dilation, groups, deformable_groups;

  int64_t positions() const { return images * out_height * out_width; }
  int64_t kernel_size() const { return kernel_height * kernel_width; }
  int64_t group_channels() const { return channels / groups; }
  int64_t group_out_channels() const { return out_channels / groups; }
};

struct DeformConvInputs {
  const float* x;
  const float* offset;
  const float* mask;  // null for v1
  const float* weight;
};

// A run of input channels within one group and one deformable group.
struct ChannelRun {
  int64_t begin, size, group, deformable_group;
};

class DeformConv {
 public:
  DeformConv(const DeformConvShape& shape, const DeformConvInputs& inputs);

  // Each of these is a number of tasks and a function for one of them; tasks write apart from
  // each other and sum in a fixed order, so results do not depend on the number of threads.
  // Outputs are written in full.
  int64_t position_tasks() const;
  void Forward(int64_t task, float* y) const;
  // d_mask is null for v1.
  void OffsetAndMaskGradient(int64_t task, const float* dy, float* d_offset, float* d_mask) const;

  int64_t input_tasks() const;
  void InputGradient(int64_t task, const float* dy, float* dx) const;

  int64_t weight_tasks() const;
  void WeightGradient(int64_t task, const float* dy, float* d_weight) const;

 private:
  // The four pixels around a sample.
  struct Sample {
    int64_t corner[4];  // pixel of x, or -1: (low, low), (low, high), (high, low), (high, high)
    float y, x;         // beyond the low row and column
    float mask;
  };
  Sample SampleAt(int64_t position, int64_t k, int64_t deformable_group) const;
  const float* Corner(const Sample& sample, int i, const ChannelRun& run) const;
  void FillColumns(int64_t begin, int64_t count, int64_t k, const ChannelRun& run,
                   float* columns) const;
  void FillColumnGradients(const float* dy, int64_t begin, int64_t count, int64_t k,
                           int64_t run, float* columns) const;

  DeformConvShape shape_;
  DeformConvInputs inputs_;
  std::vector<ChannelRun> runs_;
  std::vector<float> weights_;     // packed [Cin run, Cout of its group] per (kernel position, run)
  std::vector<float> transposed_;  // packed [Cout of its group, Cin run], likewise
  std::vector<int64_t> weights_at_, transposed_at_;
};

}  // namespace tfdetect

#endif  // TFDETECT_DEFORM_CONV_H_
