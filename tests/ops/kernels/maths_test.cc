// Puts the TensorFlow-free files through ordinary and hostile inputs; meant to be compiled with
// -fsanitize=address,undefined (test_maths.py does). Prints what is wrong and exits with 1.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "decode_keypoints.h"
#include "deform_conv.h"
#include "half.h"
#include "matmul.h"
#include "nms.h"
#include "paste_masks.h"
#include "quantize.h"
#include "quantized_matmul.h"
#include "quantized_winograd.h"
#include "resize.h"
#include "roi_align.h"

namespace {

using namespace tfdetect;

int failures = 0;

#define EXPECT(condition)                                                   \
  do {                                                                      \
    if (!(condition)) {                                                     \
      ++failures;                                                           \
      std::printf("%s:%d: expected %s\n", __FILE__, __LINE__, #condition);  \
    }                                                                       \
  } while (false)

const float kInfinity = std::numeric_limits<float>::infinity();
const float kNaN = std::numeric_limits<float>::quiet_NaN();

std::mt19937 generator(1);

float Uniform(float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(generator);
}

std::vector<float> UniformVector(int64_t n, float low = -1.0f, float high = 1.0f) {
  std::vector<float> values(n);
  for (float& value : values) value = Uniform(low, high);
  return values;
}

std::vector<float> HostileBoxes() {
  const float values[] = {kNaN,   kInfinity, -kInfinity, 3.4e38f, -3.4e38f, 1e30f, -1e30f, 1e9f,
                          -1e9f,  1e5f,      -1e5f,      40.0f,   3.5f,     1.0f,  0.0f,   -0.0f,
                          1e-30f, 1e-44f,    -1.0f,      -8.0f};
  std::vector<float> boxes;
  for (int i = 0; i < 1200; ++i) {
    for (int k = 0; k < 4; ++k) boxes.push_back(values[generator() % std::size(values)]);
  }
  return boxes;
}

// The definition of ROIAlign, sample by sample; boxes must be sane. The map has these rows and
// columns of those in memory.
float SlowRoiAlign(const RoiAlignShape& s, int64_t rows, int64_t columns, const float* image,
                   const float* box, int ph, int pw, int64_t c) {
  const float offset = s.aligned ? 0.5f : 0.0f;
  const float x1 = box[0] * s.spatial_scale - offset, y1 = box[1] * s.spatial_scale - offset;
  float width = box[2] * s.spatial_scale - offset - x1;
  float height = box[3] * s.spatial_scale - offset - y1;
  if (!s.aligned) {
    width = std::max(width, 1.0f);
    height = std::max(height, 1.0f);
  }
  const float bin_h = height / s.pooled_height, bin_w = width / s.pooled_width;
  const int grid_h = s.sampling_ratio > 0 ? s.sampling_ratio : static_cast<int>(std::ceil(bin_h));
  const int grid_w = s.sampling_ratio > 0 ? s.sampling_ratio : static_cast<int>(std::ceil(bin_w));
  double sum = 0.0;
  for (int iy = 0; iy < grid_h; ++iy) {
    for (int ix = 0; ix < grid_w; ++ix) {
      float y = y1 + ph * bin_h + (iy + 0.5f) * bin_h / grid_h;
      float x = x1 + pw * bin_w + (ix + 0.5f) * bin_w / grid_w;
      if (y < -1 || y > rows || x < -1 || x > columns) continue;
      y = std::min(std::max(y, 0.0f), static_cast<float>(rows - 1));
      x = std::min(std::max(x, 0.0f), static_cast<float>(columns - 1));
      const int64_t top = static_cast<int64_t>(y), left = static_cast<int64_t>(x);
      for (int64_t yy = top; yy <= std::min(top + 1, rows - 1); ++yy) {
        for (int64_t xx = left; xx <= std::min(left + 1, columns - 1); ++xx)
          sum += (1 - std::fabs(y - yy)) * (1 - std::fabs(x - xx)) *
                 image[(yy * s.width + xx) * s.channels + c];
      }
    }
  }
  return static_cast<float>(sum / std::max(grid_h * grid_w, 1));
}

template <typename T>
void TestRoiAlign(const RoiAlignShape& shape, bool hostile, float tolerance) {
  const int64_t image_size = shape.height * shape.width * shape.channels;
  const int64_t region_size = int64_t{shape.pooled_height} * shape.pooled_width * shape.channels;
  std::vector<float> boxes;
  if (hostile) {
    boxes = HostileBoxes();
  } else {
    for (int i = 0; i < 60; ++i) {
      const float x = Uniform(-20, 150), y = Uniform(-20, 100);
      boxes.insert(boxes.end(), {x, y, x + Uniform(0, 120), y + Uniform(0, 120)});
    }
  }
  const int64_t regions = static_cast<int64_t>(boxes.size()) / 4;
  std::vector<int32_t> indices(regions);
  for (int32_t& index : indices) index = static_cast<int32_t>(generator() % shape.images);
  const std::vector<float> wide = UniformVector(shape.images * image_size);
  std::vector<T> features(wide.size());
  for (size_t i = 0; i < wide.size(); ++i) FromFloat(wide[i], &features[i]);
  std::vector<T> output(regions * region_size);
  RoiAlign(shape, features.data(), boxes.data(), indices.data(), 0, regions, output.data());
  for (const T& value : output) EXPECT(std::isfinite(ToFloat(value)));
  for (int64_t i = 0; !hostile && i < static_cast<int64_t>(output.size()); ++i) {
    const int64_t r = i / region_size, c = i % shape.channels;
    const int64_t pw = i / shape.channels % shape.pooled_width;
    const int64_t ph = i / shape.channels / shape.pooled_width % shape.pooled_height;
    const int32_t* size = shape.sizes == nullptr ? nullptr : shape.sizes + 2 * indices[r];
    const float expected = SlowRoiAlign(
        shape, size == nullptr ? shape.height : size[0], size == nullptr ? shape.width : size[1],
        wide.data() + indices[r] * image_size, &boxes[4 * r], static_cast<int>(ph),
        static_cast<int>(pw), c);
    EXPECT(std::fabs(ToFloat(output[i]) - expected) < tolerance);
  }
  // <grad, forward(features)> is <gradient(grad), features>.
  const std::vector<float> wide_grad = UniformVector(output.size());
  std::vector<T> grad(output.size()), gradient(features.size());
  for (size_t i = 0; i < grad.size(); ++i) FromFloat(wide_grad[i], &grad[i]);
  RoiAlignGradient backward(shape, boxes.data(), indices.data(), regions);
  backward.Sample(0, regions);
  backward.Distribute();
  for (int64_t task = 0; task < backward.tasks(); ++task)
    backward.Run(task, grad.data(), gradient.data());
  double left = 0.0, right = 0.0, scale = 0.0;
  for (size_t i = 0; i < grad.size(); ++i) {
    left += static_cast<double>(ToFloat(grad[i])) * ToFloat(output[i]);
    scale += std::fabs(ToFloat(grad[i]) * ToFloat(output[i]));
  }
  for (size_t i = 0; i < features.size(); ++i)
    right += static_cast<double>(ToFloat(gradient[i])) * ToFloat(features[i]);
  EXPECT(std::fabs(left - right) <= tolerance * scale);
}

void TestRoiAligns() {
  const int32_t sizes[] = {9, 17, 13, 4};
  for (const bool aligned : {true, false}) {
    for (const int ratio : {0, 2, 3}) {
      for (const bool hostile : {true, false}) {
        TestRoiAlign<float>({2, 13, 17, 9, 7, 5, 0.125f, ratio, aligned, nullptr}, hostile, 1e-5f);
        TestRoiAlign<float>({2, 13, 17, 9, 7, 5, 0.125f, ratio, aligned, sizes}, hostile, 1e-5f);
        TestRoiAlign<Half>({1, 13, 17, 40, 3, 2, 0.25f, ratio, aligned, nullptr}, hostile, 2e-3f);
        TestRoiAlign<BFloat16>({1, 1, 1, 3, 2, 2, 0.25f, ratio, aligned, nullptr}, hostile, 2e-2f);
      }
    }
  }
  const RoiAlignShape no_images = {0, 13, 17, 9, 7, 7, 0.125f, 0, true, nullptr};
  RoiAlign<float>(no_images, nullptr, nullptr, nullptr, 0, 0, nullptr);
  EXPECT(RoiAlignGradient(no_images, nullptr, nullptr, 0).tasks() == 0);
  const std::vector<float> box = {0, 0, 8, 8};
  const int32_t index = 0;
  std::vector<float> output(49 * 4, 1.0f);
  RoiAlign<float>({1, 0, 0, 4, 7, 7, 1.0f, 0, true, nullptr}, nullptr, box.data(), &index, 0, 1,
                  output.data());
  for (const float value : output) EXPECT(value == 0.0f);
}

void TestHalf() {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const Half half = {static_cast<uint16_t>(bits)};
    const float value = ToFloat(half);
    Half back;
    FromFloat(value, &back);
    EXPECT(std::isnan(value) ? (back.bits & 0x7fff) > 0x7c00 : back.bits == half.bits);
    const std::vector<Half> eight(8, half);
    Float8 loaded;
    LoadFloats(eight.data(), loaded);
    EXPECT(loaded[7] == value || std::isnan(value));
    const BFloat16 brain = {static_cast<uint16_t>(bits)};
    BFloat16 brain_back;
    FromFloat(ToFloat(brain), &brain_back);
    EXPECT(std::isnan(ToFloat(brain)) || brain_back.bits == brain.bits);
  }
  const float ties[][2] = {{2049.0f, 2048.0f}, {2051.0f, 2052.0f}, {65519.0f, 65504.0f}};
  for (const auto& tie : ties) {
    Half half;
    FromFloat(tie[0], &half);
    EXPECT(ToFloat(half) == tie[1]);
  }
  Half infinite;
  FromFloat(65520.0f, &infinite);
  EXPECT(ToFloat(infinite) == kInfinity);
}

void TestResize() {
  for (int i = 0; i < 40; ++i) {
    const int64_t height = 1 + generator() % 40, width = 1 + generator() % 40;
    const int64_t new_height = 1 + generator() % 90, new_width = 1 + generator() % 90;
    const int64_t channels = 1 + generator() % 5;
    const std::vector<uint8_t> image(height * width * channels, 200);
    std::vector<uint8_t> output(new_height * new_width * channels);
    const ImageResize resize(height, width, channels, new_height, new_width);
    const int64_t middle = generator() % (new_height + 1);
    resize.Rows(image.data(), width * channels, 0, middle, output.data());
    resize.Rows(image.data(), width * channels, middle, new_height, output.data());
    for (const uint8_t value : output) EXPECT(value == 200);
  }
}

void TestNms() {
  const std::vector<float> boxes = HostileBoxes();
  const int64_t n = static_cast<int64_t>(boxes.size()) / 4;
  std::vector<float> scores = UniformVector(n);
  std::vector<int32_t> groups(n);
  for (int64_t i = 0; i < n; ++i) {
    groups[i] = static_cast<int32_t>(i % 5) - 1;
    if (i % 11 == 0) scores[i] = kNaN;
    if (i % 13 == 0) scores[i] = kInfinity;
  }
  const std::unique_ptr<bool[]> keep(new bool[n]());
  const NmsOrder order = OrderForNms(boxes.data(), 4, scores.data(), groups.data(), n);
  SuppressGroups(order, boxes.data(), 0.5, 0, static_cast<int64_t>(order.groups.size()),
                 keep.get());
  for (int64_t i = 0; i < n; ++i) {
    const bool candidate = groups[i] >= 0 && !std::isnan(scores[i]) &&
                           std::isfinite(boxes[4 * i]) && std::isfinite(boxes[4 * i + 1]) &&
                           std::isfinite(boxes[4 * i + 2]) && std::isfinite(boxes[4 * i + 3]);
    EXPECT(candidate || !keep[i]);
  }
  EXPECT(OrderForNms(nullptr, 4, nullptr, nullptr, 0).groups.empty());
}

void TestPasteMasks() {
  const std::vector<float> boxes = HostileBoxes();
  const int64_t n = static_cast<int64_t>(boxes.size()) / 4, side = 5, height = 12, width = 9;
  const std::vector<float> masks = UniformVector(n * side * side, 0.0f, 1.0f);
  const std::unique_ptr<bool[]> output(new bool[n * height * width]);
  PasteMasks(masks.data(), boxes.data(), side, height, width, 0.5f, 0, n, output.get());
  for (int64_t i = 0; i < n; ++i) {
    const float* box = &boxes[4 * i];
    const bool empty = !(box[2] - box[0] > 0 && box[3] - box[1] > 0 &&
                         std::isfinite(box[2] - box[0]) && std::isfinite(box[3] - box[1]));
    for (int64_t p = 0; empty && p < height * width; ++p)
      EXPECT(!output[i * height * width + p]);
  }
}

// The bicubic kernel of distance, and a map resized by it at one pixel.
double Cubic(double d) {
  d = std::fabs(d);
  if (d < 1) return (1.25 * d - 2.25) * d * d + 1;
  return d < 2 ? ((-0.75 * d + 3.75) * d - 6) * d + 3 : 0;
}

double Resized(const float* map, int64_t side, double y, double x) {
  const double top = std::floor(y), left = std::floor(x);
  double sum = 0.0;
  for (double yy = top - 1; yy <= top + 2; ++yy) {
    for (double xx = left - 1; xx <= left + 2; ++xx) {
      const int64_t cy = std::min(std::max(static_cast<int64_t>(yy), int64_t{0}), side - 1);
      const int64_t cx = std::min(std::max(static_cast<int64_t>(xx), int64_t{0}), side - 1);
      sum += Cubic(y - yy) * Cubic(x - xx) * map[cy * side + cx];
    }
  }
  return sum;
}

// The greatest value is found although most lines are skipped, in maps with and without a peak.
void TestKeypointMaximum() {
  const int64_t side = 9;
  for (int i = 0; i < 60; ++i) {
    std::vector<float> map = UniformVector(side * side);
    if (i % 2) map[generator() % map.size()] += Uniform(0, 9);
    const int64_t columns = 1 + generator() % 50, rows = 1 + generator() % 50;
    const float box[] = {0, 0, static_cast<float>(columns), static_cast<float>(rows)};
    float result[4];
    DecodeKeypoints(map.data(), box, side, 1, 0, 1, result);
    const auto value = [&](double y, double x) {
      return Resized(map.data(), side, y * side / rows - 0.5, x * side / columns - 0.5);
    };
    double greatest = -1e9;
    for (int64_t y = 0; y < rows; ++y) {
      for (int64_t x = 0; x < columns; ++x) greatest = std::max(greatest, value(y + 0.5, x + 0.5));
    }
    EXPECT(std::fabs(result[2] - greatest) < 1e-4);
    EXPECT(std::fabs(value(result[1], result[0]) - greatest) < 1e-4);
  }
}

void TestDecodeKeypoints() {
  std::vector<float> boxes = HostileBoxes();
  boxes.resize(4 * 60);
  // The largest cost seconds under the sanitizers: one side of them is enough.
  for (size_t i = 0; i < boxes.size(); i += 4) boxes[i + 2] = boxes[i] + Uniform(-5, 60);
  const int64_t n = static_cast<int64_t>(boxes.size()) / 4, side = 6, keypoints = 2;
  std::vector<float> heatmaps = UniformVector(n * side * side * keypoints);
  heatmaps[0] = kNaN;
  heatmaps[100] = kInfinity;
  heatmaps[200] = -kInfinity;
  std::vector<float> output(n * keypoints * 4, 5.0f);
  DecodeKeypoints(heatmaps.data(), boxes.data(), side, keypoints, 0, n * keypoints, output.data());
  for (int64_t i = 0; i < n; ++i) {
    const float* box = &boxes[4 * i];
    if (std::isfinite(box[2] - box[0]) && std::isfinite(box[3] - box[1])) continue;
    for (int64_t k = 0; k < keypoints * 4; ++k) EXPECT(output[i * keypoints * 4 + k] == 0.0f);
  }
}

void TestMatMul() {
  const int64_t m = 13, k = 7, n = 21;
  const std::vector<float> a = UniformVector(m * k), b = UniformVector(k * n);
  std::vector<float> packed(PackedSize(k, n)), c(m * n, 1.0f), transposed(m * n, 1.0f);
  Pack(b.data(), n, 1, k, n, packed.data());
  AddMatMul(a.data(), k, 1, packed.data(), m, k, n, c.data(), n);
  AddMatMul(a.data(), 1, m, packed.data(), m, k, n, transposed.data(), n);
  for (int64_t i = 0; i < m * n; ++i) {
    float expected = 1.0f, other = 1.0f;
    for (int64_t j = 0; j < k; ++j) {
      expected += a[i / n * k + j] * b[j * n + i % n];
      other += a[j * m + i / n] * b[j * n + i % n];
    }
    EXPECT(std::fabs(c[i] - expected) < 1e-5f);
    EXPECT(std::fabs(transposed[i] - other) < 1e-5f);
  }
}

void TestDeformConv() {
  for (const bool hostile : {false, true}) {
    DeformConvShape s = {2, 7, 9, 12, 4, 5, 6, 3, 3, 2, 1, 1, 3, 2};
    const int64_t taps = s.deformable_groups * s.kernel_size();
    const std::vector<float> x = UniformVector(s.images * s.height * s.width * s.channels);
    std::vector<float> offset = UniformVector(s.positions() * taps * 2, -3, 3);
    const float values[] = {kNaN, kInfinity, -kInfinity, 1e30f, -1e30f, 1e9f, -1.0f, 1.0f, 0.0f};
    for (size_t i = 0; hostile && i < offset.size(); ++i)
      offset[i] = values[generator() % std::size(values)];
    const std::vector<float> mask = UniformVector(s.positions() * taps, 0, 1);
    const std::vector<float> weight =
        UniformVector(s.kernel_size() * s.group_channels() * s.out_channels);
    const std::vector<float> dy = UniformVector(s.positions() * s.out_channels);
    const DeformConv convolution(s, {x.data(), offset.data(), mask.data(), weight.data()});
    std::vector<float> y(dy.size()), dx(x.size()), d_offset(offset.size()), d_mask(mask.size());
    std::vector<float> d_weight(weight.size());
    for (int64_t i = 0; i < convolution.position_tasks(); ++i) {
      convolution.Forward(i, y.data());
      convolution.OffsetAndMaskGradient(i, dy.data(), d_offset.data(), d_mask.data());
    }
    for (int64_t i = 0; i < convolution.input_tasks(); ++i)
      convolution.InputGradient(i, dy.data(), dx.data());
    for (int64_t i = 0; i < convolution.weight_tasks(); ++i)
      convolution.WeightGradient(i, dy.data(), d_weight.data());
    // The output is linear in x, in the mask and in the weight.
    double products[4] = {}, scale = 0.0;
    for (size_t i = 0; i < y.size(); ++i) {
      products[0] += static_cast<double>(y[i]) * dy[i];
      scale += std::fabs(y[i] * dy[i]);
    }
    for (size_t i = 0; i < x.size(); ++i) products[1] += static_cast<double>(x[i]) * dx[i];
    for (size_t i = 0; i < mask.size(); ++i)
      products[2] += static_cast<double>(mask[i]) * d_mask[i];
    for (size_t i = 0; i < weight.size(); ++i)
      products[3] += static_cast<double>(weight[i]) * d_weight[i];
    for (int i = 1; i < 4; ++i) EXPECT(std::fabs(products[i] - products[0]) <= 1e-5 * scale);
    for (const float value : d_offset) EXPECT(std::isfinite(value));
  }
}

// Of the extremes alone, or of any.
template <typename T>
std::vector<T> Integers(int64_t n, int low, int high, bool extreme) {
  std::vector<T> values(n);
  for (T& value : values) {
    const int any = low + static_cast<int>(generator() % (high - low + 1));
    value = static_cast<T>(extreme ? (any % 2 ? low : high) : any);
  }
  return values;
}

// In both forms, whichever of them this processor is meant for; rows end in what is not read.
void TestQuantizedMatMul() {
  const int64_t shapes[][3] = {{1, 1, 1}, {13, 7, 21}, {30, 64, 48}, {37, 99, 80}, {5, 1300, 33}};
  for (const auto& [m, k, n] : shapes) {
    for (const bool extreme : {false, true}) {
      const int64_t columns = Panels(n) * kPanel, stride = RoundUp(k, kQuad);
      const auto bytes = Integers<uint8_t>(m * stride, 0, 255, extreme);
      const auto weights = Integers<int8_t>(k * n, -128, 127, extreme);
      const auto initial = Integers<int32_t>(columns, -100000, 100000, false);
      const std::vector<int16_t> shorts(bytes.begin(), bytes.end());
      const std::vector<int16_t> wide(weights.begin(), weights.end());
      std::vector<int8_t> quads(PackedSize(stride, n));
      std::vector<int16_t> pairs(PackedSize(RoundUp(k, kPair), n));
      PackQuads(weights.data(), k, n, quads.data());
      PackPairs(wide.data(), k, n, pairs.data());
      std::vector<int32_t> found(m * columns), other(m * columns);
      MultiplyQuads(bytes.data(), stride, quads.data(), m, k, Panels(n), initial.data(),
                    found.data(), columns);
      MultiplyPairs(shorts.data(), stride, pairs.data(), m, k, Panels(n), other.data(), columns);
      for (int64_t i = 0; i < m * columns; ++i) {
        const int64_t row = i / columns, column = i % columns;
        int64_t sum = 0;
        for (int64_t j = 0; column < n && j < k; ++j)
          sum += bytes[row * stride + j] * weights[j * n + column];
        EXPECT(found[i] == sum + initial[column]);
        EXPECT(other[i] == sum);
      }
    }
  }
}

// The largest sums, of as many channels as there may be: partial ones exceed int32.
void TestQuantizedWinograd() {
  EXPECT(CanUseQuantizedWinograd(1824) && !CanUseQuantizedWinograd(1840));
  const WinogradShape shape = {2, 3, 5, 1824, 3};
  for (const int weight : {-128, 127}) {
    const std::vector<int8_t> weights(9 * shape.channels * shape.out_channels, weight);
    const std::vector<uint8_t> x(shape.images * 15 * shape.channels, 255);
    std::vector<int16_t> packed(QuantizedWinogradSize(shape.channels, shape.out_channels));
    QuantizedWinogradWeights(weights.data(), shape.channels, shape.out_channels, packed.data());
    std::vector<int32_t> scratch(QuantizedWinogradScratch(shape, shape.tiles()));
    const std::vector<float> ones(shape.out_channels, 1.0f), zeros(shape.out_channels);
    std::vector<float> y(shape.images * 15 * shape.out_channels);
    SumsOutput output;
    output.channels = shape.out_channels;
    output.multiplier = ones.data();
    output.bias = zeros.data();
    output.floats = y.data();
    QuantizedWinogradTiles(shape, x.data(), 0, packed.data(), nullptr, output, 0, shape.tiles(),
                           scratch.data());
    for (size_t i = 0; i < y.size(); ++i) {
      const int64_t pixel = i / shape.out_channels % 15, row = pixel / 5, column = pixel % 5;
      const int64_t taps = (row == 1 ? 3 : 2) * (column % 4 ? 3 : 2);
      EXPECT(y[i] == static_cast<float>(taps * shape.channels * 255 * weight));
    }
  }
}

void TestQuantize() {
  const float values[] = {kNaN, kInfinity, -kInfinity, 3e38f, -3e38f, 2.5f, -1.5f, 1e-44f, 126.6f};
  const uint8_t expected[] = {128, 255, 0, 255, 0, 130, 126, 128, 255};
  uint8_t found[9];
  Quantize(values, 9, 1.0f, 128, found);
  for (int i = 0; i < 9; ++i) EXPECT(found[i] == expected[i]);
  const std::vector<uint8_t> bytes = Integers<uint8_t>(45, 0, 255, false);
  std::vector<int16_t> wide(bytes.size());
  Widen(bytes.data(), bytes.size(), 128, wide.data());
  for (size_t i = 0; i < bytes.size(); ++i) EXPECT(wide[i] == bytes[i] - 128);
}

}  // namespace

int main() {
  TestHalf();
  TestRoiAligns();
  TestResize();
  TestNms();
  TestPasteMasks();
  TestDecodeKeypoints();
  TestKeypointMaximum();
  TestMatMul();
  TestDeformConv();
  TestQuantizedMatMul();
  TestQuantizedWinograd();
  TestQuantize();
  std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
