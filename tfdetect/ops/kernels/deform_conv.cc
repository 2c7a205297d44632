#include "deform_conv.h"

#include <algorithm>
#include <cmath>

#include "instruction_set.h"
#include "matmul.h"
#include "portability.h"

namespace tfdetect {
namespace {

constexpr int64_t kMaxRun = 64;    // channels
constexpr int64_t kBlock = 96;     // positions that are multiplied together
const float kZeros[kMaxRun] = {};  // what lies outside of x

TFDETECT_INLINE void InterpolateLoop(const float* const corners[4], const float weights[4],
                                     int64_t n, float* output) {
  const float *c0 = corners[0], *c1 = corners[1], *c2 = corners[2], *c3 = corners[3];
  const float w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];
  for (int64_t i = 0; i < n; ++i)
    output[i] = w0 * c0[i] + w1 * c1[i] + w2 * c2[i] + w3 * c3[i];
}
const auto Interpolate = BestVersion<InterpolateLoop>();

TFDETECT_INLINE void AddScaledLoop(float weight, const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += weight * from[i];
}
const auto AddScaled = BestVersion<AddScaledLoop>();

// Adds the sums over channels of grad times each corner: the gradients are made of those.
TFDETECT_INLINE void AddCornerProductsLoop(const float* grad, const float* const corners[4],
                                           int64_t n, float sums[4]) {
  for (int k = 0; k < 4; ++k) {
    const float* corner = corners[k];
    float lanes[8] = {};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
      for (int j = 0; j < 8; ++j) lanes[j] += grad[i + j] * corner[i + j];
    for (; i < n; ++i) lanes[0] += grad[i] * corner[i];
    for (int j = 0; j < 8; ++j) sums[k] += lanes[j];
  }
}
const auto AddCornerProducts = BestVersion<AddCornerProductsLoop>();

void BilinearWeights(float y, float x, float weights[4]) {
  weights[0] = (1.0f - y) * (1.0f - x);
  weights[1] = (1.0f - y) * x;
  weights[2] = y * (1.0f - x);
  weights[3] = y * x;
}

}  // namespace

DeformConv::DeformConv(const DeformConvShape& shape, const DeformConvInputs& inputs)
    : shape_(shape), inputs_(inputs) {
  const int64_t per_group = shape.group_channels();
  const int64_t per_deformable = shape.channels / shape.deformable_groups;
  for (int64_t c = 0; c < shape.channels;) {
    const int64_t group = c / per_group, deformable = c / per_deformable;
    const int64_t end = std::min({(group + 1) * per_group, (deformable + 1) * per_deformable,
                                  c + kMaxRun});
    runs_.push_back({c, end - c, group, deformable});
    c = end;
  }
  const int64_t outputs = shape.group_out_channels();
  for (int64_t k = 0; k < shape.kernel_size(); ++k) {
    for (const ChannelRun& run : runs_) {
      const float* weight =
          inputs.weight + (k * per_group + run.begin - run.group * per_group) * shape.out_channels +
          run.group * outputs;
      weights_at_.push_back(static_cast<int64_t>(weights_.size()));
      weights_.resize(weights_.size() + PackedSize(run.size, outputs));
      Pack(weight, shape.out_channels, 1, run.size, outputs, &weights_[weights_at_.back()]);
      transposed_at_.push_back(static_cast<int64_t>(transposed_.size()));
      transposed_.resize(transposed_.size() + PackedSize(outputs, run.size));
      Pack(weight, 1, shape.out_channels, outputs, run.size, &transposed_[transposed_at_.back()]);
    }
  }
}

DeformConv::Sample DeformConv::SampleAt(int64_t position, int64_t k,
                                        int64_t deformable_group) const {
  const DeformConvShape& s = shape_;
  const int64_t image = position / (s.out_height * s.out_width);
  const int64_t row = position / s.out_width % s.out_height;
  const int64_t column = position % s.out_width;
  const int64_t tap = (position * s.deformable_groups + deformable_group) * s.kernel_size() + k;
  const int64_t grid_y = row * s.stride - s.padding + k / s.kernel_width * s.dilation;
  const int64_t grid_x = column * s.stride - s.padding + k % s.kernel_width * s.dilation;
  const float y = static_cast<float>(grid_y) + inputs_.offset[2 * tap];
  const float x = static_cast<float>(grid_x) + inputs_.offset[2 * tap + 1];
  Sample sample;
  sample.mask = inputs_.mask ? inputs_.mask[tap] : 1.0f;
  const float low_y = std::floor(y), low_x = std::floor(x);
  // Also false for what is not a number.
  const bool near = low_y >= -1.0f && low_y < static_cast<float>(s.height) && low_x >= -1.0f &&
                    low_x < static_cast<float>(s.width);
  sample.y = near ? y - low_y : 0.0f;
  sample.x = near ? x - low_x : 0.0f;
  for (int i = 0; i < 4; ++i) {
    sample.corner[i] = -1;
    if (!near) continue;
    const int64_t cy = static_cast<int64_t>(low_y) + i / 2;
    const int64_t cx = static_cast<int64_t>(low_x) + i % 2;
    if (cy >= 0 && cy < s.height && cx >= 0 && cx < s.width)
      sample.corner[i] = (image * s.height + cy) * s.width + cx;
  }
  return sample;
}

const float* DeformConv::Corner(const Sample& sample, int i, const ChannelRun& run) const {
  return sample.corner[i] < 0 ? kZeros : inputs_.x + sample.corner[i] * shape_.channels + run.begin;
}

// The samples of one kernel position and run of channels, times the mask: [count, run.size].
void DeformConv::FillColumns(int64_t begin, int64_t count, int64_t k, const ChannelRun& run,
                             float* columns) const {
  for (int64_t i = 0; i < count; ++i) {
    const Sample sample = SampleAt(begin + i, k, run.deformable_group);
    const float* corners[4];
    for (int j = 0; j < 4; ++j) corners[j] = Corner(sample, j, run);
    float weights[4];
    BilinearWeights(sample.y, sample.x, weights);
    for (float& weight : weights) weight *= sample.mask;
    Interpolate(corners, weights, run.size, columns + i * run.size);
  }
}

// The gradients of those samples (times the mask) for the outputs' dy: [count, run.size].
void DeformConv::FillColumnGradients(const float* dy, int64_t begin, int64_t count, int64_t k,
                                     int64_t run, float* columns) const {
  const ChannelRun& channels = runs_[run];
  const int64_t outputs = shape_.group_out_channels();
  std::fill_n(columns, count * channels.size, 0.0f);
  AddMatMul(dy + begin * shape_.out_channels + channels.group * outputs, shape_.out_channels, 1,
            &transposed_[transposed_at_[k * runs_.size() + run]], count, outputs, channels.size,
            columns, channels.size);
}

int64_t DeformConv::position_tasks() const { return (shape_.positions() + kBlock - 1) / kBlock; }

void DeformConv::Forward(int64_t task, float* y) const {
  const int64_t begin = task * kBlock, count = std::min(kBlock, shape_.positions() - begin);
  const int64_t outputs = shape_.group_out_channels();
  float* block = y + begin * shape_.out_channels;
  std::fill_n(block, count * shape_.out_channels, 0.0f);
  std::vector<float> columns(kBlock * kMaxRun);
  for (int64_t k = 0; k < shape_.kernel_size(); ++k) {
    for (size_t r = 0; r < runs_.size(); ++r) {
      const ChannelRun& run = runs_[r];
      FillColumns(begin, count, k, run, columns.data());
      AddMatMul(columns.data(), run.size, 1, &weights_[weights_at_[k * runs_.size() + r]], count,
                run.size, outputs, block + run.group * outputs, shape_.out_channels);
    }
  }
}

void DeformConv::OffsetAndMaskGradient(int64_t task, const float* dy, float* d_offset,
                                       float* d_mask) const {
  const int64_t begin = task * kBlock, count = std::min(kBlock, shape_.positions() - begin);
  const int64_t taps = shape_.deformable_groups * shape_.kernel_size();
  std::vector<float> grads(kBlock * kMaxRun);
  std::vector<float> sums(count * taps * 4, 0.0f);  // of the gradient times each corner
  for (int64_t k = 0; k < shape_.kernel_size(); ++k) {
    for (size_t r = 0; r < runs_.size(); ++r) {
      const ChannelRun& run = runs_[r];
      FillColumnGradients(dy, begin, count, k, r, grads.data());
      for (int64_t i = 0; i < count; ++i) {
        const Sample sample = SampleAt(begin + i, k, run.deformable_group);
        const float* corners[4];
        for (int j = 0; j < 4; ++j) corners[j] = Corner(sample, j, run);
        const int64_t tap = i * taps + run.deformable_group * shape_.kernel_size() + k;
        AddCornerProducts(&grads[i * run.size], corners, run.size, &sums[4 * tap]);
      }
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t t = 0; t < taps; ++t) {
      const Sample sample =
          SampleAt(begin + i, t % shape_.kernel_size(), t / shape_.kernel_size());
      const float* sum = &sums[4 * (i * taps + t)];
      const int64_t tap = (begin + i) * taps + t;
      d_offset[2 * tap] = sample.mask * (sample.x * (sum[3] - sum[1]) +
                                         (1.0f - sample.x) * (sum[2] - sum[0]));
      d_offset[2 * tap + 1] = sample.mask * (sample.y * (sum[3] - sum[2]) +
                                             (1.0f - sample.y) * (sum[1] - sum[0]));
      if (d_mask) {
        float weights[4];
        BilinearWeights(sample.y, sample.x, weights);
        d_mask[tap] = weights[0] * sum[0] + weights[1] * sum[1] + weights[2] * sum[2] +
                      weights[3] * sum[3];
      }
    }
  }
}

int64_t DeformConv::input_tasks() const {
  return shape_.images * static_cast<int64_t>(runs_.size());
}

void DeformConv::InputGradient(int64_t task, const float* dy, float* dx) const {
  const int64_t image = task / static_cast<int64_t>(runs_.size());
  const int64_t r = task % static_cast<int64_t>(runs_.size());
  const ChannelRun& run = runs_[r];
  const int64_t pixels = shape_.height * shape_.width;
  for (int64_t p = image * pixels; p < (image + 1) * pixels; ++p)
    std::fill_n(dx + p * shape_.channels + run.begin, run.size, 0.0f);
  const int64_t first = image * shape_.out_height * shape_.out_width;
  const int64_t end = first + shape_.out_height * shape_.out_width;
  std::vector<float> grads(kBlock * kMaxRun);
  for (int64_t begin = first; begin < end; begin += kBlock) {
    const int64_t count = std::min(kBlock, end - begin);
    for (int64_t k = 0; k < shape_.kernel_size(); ++k) {
      FillColumnGradients(dy, begin, count, k, r, grads.data());
      for (int64_t i = 0; i < count; ++i) {
        const Sample sample = SampleAt(begin + i, k, run.deformable_group);
        float weights[4];
        BilinearWeights(sample.y, sample.x, weights);
        for (int j = 0; j < 4; ++j) {
          if (sample.corner[j] < 0) continue;
          AddScaled(weights[j] * sample.mask, &grads[i * run.size], run.size,
                    dx + sample.corner[j] * shape_.channels + run.begin);
        }
      }
    }
  }
}

int64_t DeformConv::weight_tasks() const {
  return shape_.kernel_size() * static_cast<int64_t>(runs_.size());
}

void DeformConv::WeightGradient(int64_t task, const float* dy, float* d_weight) const {
  const int64_t k = task / static_cast<int64_t>(runs_.size());
  const ChannelRun& run = runs_[task % static_cast<int64_t>(runs_.size())];
  const int64_t per_group = shape_.group_channels(), outputs = shape_.group_out_channels();
  float* weight =
      d_weight + (k * per_group + run.begin - run.group * per_group) * shape_.out_channels +
      run.group * outputs;
  for (int64_t c = 0; c < run.size; ++c)
    std::fill_n(weight + c * shape_.out_channels, outputs, 0.0f);
  std::vector<float> columns(kBlock * kMaxRun), packed(PackedSize(kBlock, outputs));
  for (int64_t begin = 0; begin < shape_.positions(); begin += kBlock) {
    const int64_t count = std::min(kBlock, shape_.positions() - begin);
    FillColumns(begin, count, k, run, columns.data());
    Pack(dy + begin * shape_.out_channels + run.group * outputs, shape_.out_channels, 1, count,
         outputs, packed.data());
    AddMatMul(columns.data(), 1, run.size, packed.data(), run.size, count, outputs, weight,
              shape_.out_channels);
  }
}

}  // namespace tfdetect
