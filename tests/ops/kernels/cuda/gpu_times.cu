// How long the CUDA kernels take at the sizes of a real model, and that their results are those
// of the CPU's files there; run_on_gpu.py compiles and runs it.

#include <cstring>
#include <functional>
#include <memory>

#include "decode_keypoints.h"
#include "decode_keypoints_gpu.h"
#include "deform_conv_gpu.h"
#include "device_array.h"
#include "nms.h"
#include "nms_gpu.h"
#include "paste_masks.h"
#include "paste_masks_gpu.h"
#include "point_sample.h"
#include "point_sample_gpu.h"
#include "resize.h"
#include "resize_gpu.h"
#include "roi_align.h"
#include "roi_align_gpu.h"

namespace {

using namespace tfdetect;

bool passed = true;

// Of one launch, repeated.
float Milliseconds(const std::function<const char*()>& launch) {
  constexpr int kTimes = 20;
  cudaEvent_t start, stop;
  Check(cudaEventCreate(&start));
  Check(cudaEventCreate(&stop));
  CheckLaunch(launch());
  Check(cudaEventRecord(start));
  for (int i = 0; i < kTimes; ++i) CheckLaunch(launch());
  Check(cudaEventRecord(stop));
  Check(cudaEventSynchronize(stop));
  float milliseconds;
  Check(cudaEventElapsedTime(&milliseconds, start, stop));
  return milliseconds / kTimes;
}

// 10^9 bytes per second, read and written, of copies of 1 GB.
float CopyBandwidth() {
  constexpr int64_t kBytes = int64_t{1} << 30;
  const DeviceArray<char> from(kBytes), to(kBytes);
  return 2e-6f * kBytes / Milliseconds([&] {
    Check(cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, nullptr));
    return static_cast<const char*>(nullptr);
  });
}

// `bytes` is the least that is read and written: every input and every output once.
void Report(const char* what, float milliseconds, float difference, float tolerance,
            int64_t bytes) {
  static const float bandwidth = CopyBandwidth();
  const bool good = difference <= tolerance;
  passed &= good;
  std::printf("%-58s %8.3f ms, %6.1f MB, %3.0f %% of a copy's %.0f GB/s, differs by %.1e%s\n", what,
              milliseconds, 1e-6 * bytes, 1e-4 * bytes / milliseconds / bandwidth, bandwidth,
              difference, good ? "" : "  FAILED");
}

// The share of elements that are not the same.
template <typename T>
float Unequal(const std::vector<T>& actual, const void* expected) {
  const T* values = static_cast<const T*>(expected);
  int64_t wrong = 0;
  for (size_t i = 0; i < actual.size(); ++i) wrong += actual[i] != values[i];
  return static_cast<float>(wrong) / static_cast<float>(actual.size());
}

template <typename T>
void TimeRoiAlign(const char* name, FloatType type, const RoiAlignShape& shape, float longest,
                  float tolerance) {
  const int64_t regions = 1000;
  const std::vector<float> boxes = RandomBoxes(regions, shape.width / shape.spatial_scale,
                                               shape.height / shape.spatial_scale, longest);
  std::vector<int32_t> indices(regions);
  for (int32_t& index : indices) index = static_cast<int32_t>(generator() % shape.images);
  const std::vector<T> features =
      UniformVector<T>(shape.images * shape.height * shape.width * shape.channels);
  const std::vector<T> grad =
      UniformVector<T>(regions * shape.pooled_height * shape.pooled_width * shape.channels);
  const DeviceArray<T> device_features(features), device_grad(grad);
  const DeviceArray<T> output(grad.size()), gradient(features.size());
  const DeviceArray<float> device_boxes(boxes);
  const DeviceArray<int32_t> device_indices(indices);
  const float forward = Milliseconds([&] {
    return LaunchRoiAlign(shape, type, device_features.data(), device_boxes.data(),
                          device_indices.data(), regions, output.data(), nullptr);
  });
  const float backward = Milliseconds([&] {
    return LaunchRoiAlignGradient(shape, type, device_grad.data(), device_boxes.data(),
                                  device_indices.data(), regions, gradient.data(), nullptr);
  });
  std::vector<T> expected(grad.size()), expected_gradient(features.size());
  RoiAlign(shape, features.data(), boxes.data(), indices.data(), 0, regions, expected.data());
  RoiAlignGradient reference(shape, boxes.data(), indices.data(), regions);
  reference.Sample(0, regions);
  reference.Distribute();
  for (int64_t task = 0; task < reference.tasks(); ++task)
    reference.Run(task, grad.data(), expected_gradient.data());
  char what[100];
  std::snprintf(what, sizeof(what), "roi_align %s, boxes to %.0f px, sampling ratio %d", name,
                longest, shape.sampling_ratio);
  const int64_t bytes = sizeof(T) * (features.size() + grad.size());
  Report(what, forward, Difference(output.Values(), expected), tolerance, bytes);
  Report("  gradient", backward, Difference(gradient.Values(), expected_gradient),
         10 * tolerance, bytes);
}

void TimeRoiAligns() {
  for (const float longest : {112.0f, 448.0f}) {
    for (const int ratio : {0, 2}) {
      const RoiAlignShape shape = {1, 200, 304, 256, 7, 7, 0.25f, ratio, true, nullptr};
      TimeRoiAlign<float>("float32", FloatType::kFloat, shape, longest, 1e-5f);
      TimeRoiAlign<Half>("float16", FloatType::kHalf, shape, longest, 2e-3f);
      TimeRoiAlign<BFloat16>("bfloat16", FloatType::kBFloat16, shape, longest, 1.6e-2f);
    }
  }
  TimeRoiAlign<float>("float32", FloatType::kFloat, {2, 50, 76, 63, 14, 14, 0.0625f, 0, false, nullptr},
                      400, 1e-5f);
}

void TimeNms(const char* what, int64_t n, int groups, double threshold) {
  const std::vector<float> boxes = RandomBoxes(n, 1200, 800, 300);
  const std::vector<float> scores = UniformVector<float>(n);
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(generator() % groups);
  const DeviceArray<float> device_boxes(boxes), device_scores(scores);
  const DeviceArray<int32_t> device_ids(ids);
  const DeviceArray<char> workspace(NmsWorkspace(n, 4)), keep(n);
  const float milliseconds = Milliseconds([&] {
    return LaunchNms(device_boxes.data(), 4, device_scores.data(), device_ids.data(), n, threshold,
                     workspace.data(), reinterpret_cast<bool*>(keep.data()), nullptr);
  });
  const std::unique_ptr<bool[]> expected(new bool[n]());
  const NmsOrder order = OrderForNms(boxes.data(), 4, scores.data(), ids.data(), n);
  SuppressGroups(order, boxes.data(), threshold, 0, static_cast<int64_t>(order.groups.size()),
                 expected.get());
  Report(what, milliseconds, Unequal(keep.Values(), expected.get()), 0.0f, 25 * n);
}

void TimeResize() {
  const ResizeShape shape = {1080, 1920, 3, 750, 1333};
  std::vector<uint8_t> image(shape.height * shape.width * shape.channels);
  for (uint8_t& value : image) value = static_cast<uint8_t>(generator());
  std::vector<uint8_t> expected(shape.new_height * shape.new_width * shape.channels);
  const DeviceArray<uint8_t> device_image(image), output(expected.size());
  const DeviceArray<char> workspace(ResizeWorkspace(shape));
  const float milliseconds = Milliseconds([&] {
    return LaunchResize(shape, device_image.data(), workspace.data(), output.data(), nullptr);
  });
  ImageResize(shape.height, shape.width, shape.channels, shape.new_height, shape.new_width)
      .Rows(image.data(), shape.width * shape.channels, 0, shape.new_height, expected.data());
  Report("resize 1080 x 1920 to 750 x 1333", milliseconds,
         Unequal(output.Values(), expected.data()), 0.0f,
         static_cast<int64_t>(image.size() + expected.size()));
}

void TimePasteMasks() {
  const int64_t n = 100, side = 28, height = 800, width = 1216, total = n * height * width;
  const std::vector<float> boxes = RandomBoxes(n, 1200, 800, 400);
  const std::vector<float> masks = UniformVector<float>(n * side * side, 0.0f, 1.0f);
  const DeviceArray<float> device_masks(masks), device_boxes(boxes);
  const DeviceArray<char> output(total);
  const float milliseconds = Milliseconds([&] {
    return LaunchPasteMasks(device_masks.data(), device_boxes.data(), n, side, height, width, 0.5f,
                            reinterpret_cast<bool*>(output.data()), nullptr);
  });
  const std::unique_ptr<bool[]> expected(new bool[total]);
  PasteMasks(masks.data(), boxes.data(), side, height, width, 0.5f, 0, n, expected.get());
  Report("paste 100 masks into 800 x 1216", milliseconds,
         Unequal(output.Values(), expected.get()), 0.0f, total + 4 * n * side * side);
}

void TimeDecodeKeypoints() {
  const int64_t n = 100, side = 56, keypoints = 17, rows = n * keypoints;
  const std::vector<float> boxes = RandomBoxes(n, 1200, 800, 400);
  const std::vector<float> heatmaps = UniformVector<float>(n * side * side * keypoints, -9, 9);
  const DeviceArray<float> device_heatmaps(heatmaps), device_boxes(boxes), output(4 * rows);
  const float milliseconds = Milliseconds([&] {
    return LaunchDecodeKeypoints(device_heatmaps.data(), device_boxes.data(), n, side, keypoints,
                                 output.data(), nullptr);
  });
  std::vector<float> expected(4 * rows);
  DecodeKeypoints(heatmaps.data(), boxes.data(), side, keypoints, 0, rows, expected.data());
  Report("decode 17 keypoints of 100 boxes", milliseconds, Difference(output.Values(), expected),
         1e-6f, static_cast<int64_t>(4 * heatmaps.size()));
}

// Of PointRend's training: 196 points of each region of two images.
void TimePointSample() {
  const int64_t rows = 256;
  const PointSampleShape shape = {2, 200, 304, 256, 196, nullptr};
  const std::vector<float> points = UniformVector<float>(2 * rows * shape.points, 0.0f, 1.0f);
  std::vector<int32_t> indices(rows);
  for (int64_t row = 0; row < rows; ++row) indices[row] = static_cast<int32_t>(2 * row / rows);
  const std::vector<float> features =
      UniformVector<float>(shape.maps * shape.height * shape.width * shape.channels);
  const std::vector<float> grad = UniformVector<float>(rows * shape.points * shape.channels);
  const DeviceArray<float> device_features(features), device_grad(grad), device_points(points);
  const DeviceArray<float> output(grad.size()), gradient(features.size());
  const DeviceArray<int32_t> device_indices(indices);
  const float forward = Milliseconds([&] {
    return LaunchPointSample(shape, FloatType::kFloat, device_features.data(),
                             device_points.data(), device_indices.data(), rows, output.data(),
                             nullptr);
  });
  const float backward = Milliseconds([&] {
    return LaunchPointSampleGradient(shape, FloatType::kFloat, device_grad.data(),
                                     device_points.data(), device_indices.data(), rows,
                                     gradient.data(), nullptr);
  });
  std::vector<float> expected(grad.size()), expected_gradient(features.size());
  PointSample(shape, features.data(), points.data(), indices.data(), 0, rows * shape.points,
              expected.data());
  const PointSampleGradient reference(shape, points.data(), indices.data(), rows);
  for (int64_t task = 0; task < reference.tasks(); ++task)
    reference.Run(task, grad.data(), expected_gradient.data());
  const int64_t bytes = sizeof(float) * (features.size() + grad.size());
  Report("point_sample, 196 points of 256 regions", forward,
         Difference(output.Values(), expected), 0.0f, bytes);
  Report("  gradient", backward, Difference(gradient.Values(), expected_gradient), 0.0f, bytes);
}

void TimeDeformConv() {
  const DeformConvShape s = {1, 50, 76, 256, 50, 76, 256, 3, 3, 1, 1, 1, 1, 1};
  const int64_t taps = s.deformable_groups * s.kernel_size();
  const std::vector<float> x = UniformVector<float>(s.images * s.height * s.width * s.channels);
  const std::vector<float> offset = UniformVector<float>(s.positions() * taps * 2, -2, 2);
  const std::vector<float> mask = UniformVector<float>(s.positions() * taps, 0, 1);
  const std::vector<float> weight =
      UniformVector<float>(s.kernel_size() * s.group_channels() * s.out_channels);
  const std::vector<float> dy = UniformVector<float>(s.positions() * s.out_channels);
  const DeviceArray<float> device_x(x), device_offset(offset), device_mask(mask);
  const DeviceArray<float> device_weight(weight), device_dy(dy), output(dy.size());
  const DeviceArray<float> dx(x.size()), d_offset(offset.size()), d_mask(mask.size());
  const DeviceArray<float> d_weight(weight.size());
  const DeviceArray<char> workspace(DeformConvGradientWorkspace(s));  // not the smaller one
  const DeformConvInputs inputs = {device_x.data(), device_offset.data(), device_mask.data(),
                                   device_weight.data()};
  const float forward = Milliseconds(
      [&] { return LaunchDeformConv(s, inputs, workspace.data(), output.data(), nullptr); });
  const float backward = Milliseconds([&] {
    return LaunchDeformConvGradient(
        s, inputs, device_dy.data(), workspace.data(),
        {dx.data(), d_offset.data(), d_mask.data(), d_weight.data()}, nullptr);
  });
  const DeformConv convolution(s, {x.data(), offset.data(), mask.data(), weight.data()});
  std::vector<float> y(dy.size()), expected_dx(x.size()), expected_d_offset(offset.size());
  std::vector<float> expected_d_mask(mask.size()), expected_d_weight(weight.size());
  for (int64_t i = 0; i < convolution.position_tasks(); ++i) {
    convolution.Forward(i, y.data());
    convolution.OffsetAndMaskGradient(i, dy.data(), expected_d_offset.data(),
                                      expected_d_mask.data());
  }
  for (int64_t i = 0; i < convolution.input_tasks(); ++i)
    convolution.InputGradient(i, dy.data(), expected_dx.data());
  for (int64_t i = 0; i < convolution.weight_tasks(); ++i)
    convolution.WeightGradient(i, dy.data(), expected_d_weight.data());
  const int64_t bytes = sizeof(float) * (x.size() + offset.size() + mask.size() + weight.size());
  const int64_t operations = 2 * s.positions() * s.kernel_size() * s.channels * s.out_channels;
  std::printf("deform_conv: %.1f and %.1f TFLOP/s\n", 1e-9 * operations / forward,
              2e-9 * operations / backward);
  Report("deform_conv v2, 50 x 76 x 256, 3 x 3", forward, Difference(output.Values(), y), 1e-5f,
         bytes + static_cast<int64_t>(sizeof(float) * y.size()));
  const float differences[] = {Difference(dx.Values(), expected_dx),
                               Difference(d_offset.Values(), expected_d_offset),
                               Difference(d_mask.Values(), expected_d_mask),
                               Difference(d_weight.Values(), expected_d_weight)};
  float worst = 0.0f;
  for (const float difference : differences) worst = std::fmax(worst, difference);
  Report("  gradients", backward, worst, 1e-4f,
         2 * bytes + static_cast<int64_t>(sizeof(float) * y.size()));
}

}  // namespace

int main() {
  TimeRoiAligns();
  TimeNms("nms of 10000 boxes in 5 groups", 10000, 5, 0.7);
  TimeNms("nms of 80000 boxes in 80 groups", 80000, 80, 0.7);
  TimeNms("nms of 5000 boxes in 1 group", 5000, 1, 0.5);
  TimeResize();
  TimePasteMasks();
  TimeDecodeKeypoints();
  TimePointSample();
  TimeDeformConv();
  return passed ? 0 : 1;
}
