// The CUDA kernels against the CPU's files, on a GPU (run_on_gpu.py) or run on the CPU by
// emulated_gpu.h (test_maths.py); prints what differs. Boxes and offsets are also empty, inverted,
// huge, infinite and NaN.

#include <cstring>
#include <functional>
#include <limits>
#include <memory>

#include "box_iou_rotated.h"
#include "box_iou_rotated_gpu.h"
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
#include "roi_align_rotated.h"
#include "roi_align_rotated_gpu.h"
#include "roi_pool.h"
#include "roi_pool_gpu.h"

namespace {

using namespace tfdetect;

int failures = 0;

void Fail(const char* what, double difference) {
  ++failures;
  std::printf("%s: differs by %g\n", what, difference);
}

// Numbers of boxes, so many in all.
std::vector<float> HostileNumbers(int64_t n) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float values[] = {NAN,   infinity, -infinity, 3e38f, -3e38f, 1e9f, -1e9f, 1e5f,
                          -40.0f, 60.0f,   0.0f,      1.0f,  3.5f,   1e-30f};
  std::vector<float> numbers(n);
  for (float& value : numbers) value = values[generator() % std::size(values)];
  return numbers;
}

std::vector<float> HostileBoxes(int64_t n) { return HostileNumbers(4 * n); }

// Boxes (x centre, y centre, width, height, angle).
std::vector<float> RotatedBoxes(int64_t n, bool hostile) {
  if (hostile) return HostileNumbers(5 * n);
  std::vector<float> boxes;
  for (int64_t i = 0; i < n; ++i)
    for (const float limit : {100.0f, 80.0f, 60.0f, 60.0f, 400.0f})
      boxes.push_back(limit * static_cast<float>(generator() % 10000) / 10000.0f);
  return boxes;
}

std::vector<float> Boxes(int64_t n, bool hostile) {
  return hostile ? HostileBoxes(n) : RandomBoxes(n, 100, 80, 100);
}

template <typename T>
void ExpectClose(const char* what, const std::vector<T>& actual, const std::vector<T>& expected,
                 float tolerance) {
  const float difference = Difference(actual, expected);
  if (difference > tolerance) Fail(what, difference);
}

// Bit for bit, but for what is not a number.
template <typename T>
void ExpectEqual(const char* what, const T* actual, const T* expected, int64_t n) {
  int64_t wrong = 0;
  for (int64_t i = 0; i < n; ++i) {
    const bool both_nan = actual[i] != actual[i] && expected[i] != expected[i];
    wrong += actual[i] != expected[i] && !both_nan;
  }
  if (wrong > 0) Fail(what, static_cast<double>(wrong) / static_cast<double>(n));
}

// The image of each of so many regions.
std::vector<int32_t> ImagesOf(int64_t regions, int64_t images) {
  std::vector<int32_t> indices(regions);
  for (int32_t& index : indices) index = static_cast<int32_t>(generator() % images);
  return indices;
}

// Height and width of each image in a map.
std::vector<int32_t> SizesOf(int64_t images, int64_t height, int64_t width) {
  std::vector<int32_t> sizes;
  for (int64_t i = 0; i < images; ++i) {
    sizes.push_back(static_cast<int32_t>(height - i));
    sizes.push_back(static_cast<int32_t>(width - 3 * i));
  }
  return sizes;
}

// With several images, each has its own size in the features.
template <typename T>
void TestRoiAlign(RoiAlignShape shape, FloatType type, bool hostile, float tolerance) {
  const std::vector<float> boxes = Boxes(14, hostile);
  const int64_t regions = static_cast<int64_t>(boxes.size()) / 4;
  const std::vector<int32_t> indices = ImagesOf(regions, shape.images);
  const int64_t bins = regions * shape.pooled_height * shape.pooled_width;
  const int64_t pixels = shape.images * shape.height * shape.width;
  const std::vector<T> features = UniformVector<T>(pixels * shape.channels);
  const std::vector<T> grad = UniformVector<T>(bins * shape.channels);
  const DeviceArray<T> device_features(features), device_grad(grad);
  const DeviceArray<T> output(grad.size()), gradient(features.size());
  const DeviceArray<float> device_boxes(boxes);
  const DeviceArray<int32_t> device_indices(indices);
  const std::vector<int32_t> sizes = SizesOf(shape.images, shape.height, shape.width);
  const DeviceArray<int32_t> device_sizes(sizes);
  RoiAlignShape device_shape = shape;
  if (shape.images > 1) {
    shape.sizes = sizes.data();
    device_shape.sizes = device_sizes.data();
  }

  std::vector<T> expected(grad.size());
  RoiAlign(shape, features.data(), boxes.data(), indices.data(), 0, regions, expected.data());
  CheckLaunch(LaunchRoiAlign(device_shape, type, device_features.data(), device_boxes.data(),
                             device_indices.data(), regions, output.data(), nullptr));
  ExpectClose("roi_align", output.Values(), expected, tolerance);

  std::vector<T> expected_gradient(features.size());
  RoiAlignGradient reference(shape, boxes.data(), indices.data(), regions);
  reference.Sample(0, regions);
  reference.Distribute();
  for (int64_t task = 0; task < reference.tasks(); ++task)
    reference.Run(task, grad.data(), expected_gradient.data());
  CheckLaunch(LaunchRoiAlignGradient(device_shape, type, device_grad.data(),
                                     device_boxes.data(), device_indices.data(), regions,
                                     gradient.data(), nullptr));
  ExpectClose("roi_align's gradient", gradient.Values(), expected_gradient, tolerance);
}

void TestRoiAlignOfMissingImage() {
  const RoiAlignShape shape = {1, 5, 6, 3, 2, 2, 1.0f, 0, true, nullptr};
  const DeviceArray<float> boxes(std::vector<float>{0, 0, 4, 4, 0, 0, 4, 4});
  const DeviceArray<int32_t> indices(std::vector<int32_t>{-1, 1});
  const DeviceArray<float> features(std::vector<float>(5 * 6 * 3, 1.0f));
  const DeviceArray<float> grad(std::vector<float>(2 * 4 * 3, 1.0f));
  const DeviceArray<float> output(2 * 4 * 3), gradient(5 * 6 * 3);
  CheckLaunch(LaunchRoiAlign(shape, FloatType::kFloat, features.data(), boxes.data(),
                             indices.data(), 2, output.data(), nullptr));
  ExpectClose("missing image", output.Values(), std::vector<float>(2 * 4 * 3, 0.0f), 0.0f);
  CheckLaunch(LaunchRoiAlignGradient(shape, FloatType::kFloat, grad.data(), boxes.data(),
                                     indices.data(), 2, gradient.data(), nullptr));
  ExpectClose("missing image's gradient", gradient.Values(), std::vector<float>(5 * 6 * 3, 0.0f),
              0.0f);
}

void TestRoiAligns() {
  for (const bool hostile : {false, true}) {
    for (const bool aligned : {true, false}) {
      for (const int ratio : {0, 2}) {
        TestRoiAlign<float>({2, 6, 9, 4, 3, 2, 0.125f, ratio, aligned, nullptr}, FloatType::kFloat,
                            hostile, 1e-5f);
      }
    }
    // More bins than lanes; more channels than a warp holds; more rows than lanes.
    TestRoiAlign<float>({1, 36, 5, 5, 2, 34, 0.5f, 0, true, nullptr}, FloatType::kFloat, hostile, 1e-5f);
    TestRoiAlign<float>({1, 6, 7, 132, 2, 2, 0.125f, 0, true, nullptr}, FloatType::kFloat, hostile, 1e-5f);
    TestRoiAlign<Half>({1, 6, 7, 16, 2, 2, 0.125f, 0, true, nullptr}, FloatType::kHalf, hostile, 2e-3f);
    TestRoiAlign<BFloat16>({1, 6, 7, 3, 2, 2, 0.125f, 0, false, nullptr}, FloatType::kBFloat16, hostile,
                           2e-2f);
  }
  TestRoiAlignOfMissingImage();
}

// With several images, each has its own size in the features. The values are few, so that bins have
// several largest pixels.
template <typename T>
void TestRoiPool(RoiPoolShape shape, FloatType type, bool hostile) {
  const std::vector<float> boxes = Boxes(14, hostile);
  const int64_t regions = static_cast<int64_t>(boxes.size()) / 4;
  const std::vector<int32_t> indices = ImagesOf(regions, shape.images);
  const int64_t bins = regions * shape.pooled_height * shape.pooled_width;
  const int64_t pixels = shape.images * shape.height * shape.width;
  std::vector<T> features = UniformVector<T>(pixels * shape.channels);
  for (T& value : features) FromFloat(std::round(3.0f * ToFloat(value)), &value);
  const std::vector<T> grad = UniformVector<T>(bins * shape.channels);
  const DeviceArray<T> device_features(features), device_grad(grad), output(grad.size());
  const DeviceArray<float> device_boxes(boxes), gradient(features.size());
  const DeviceArray<int32_t> device_indices(indices), argmax(grad.size());
  const std::vector<int32_t> sizes = SizesOf(shape.images, shape.height, shape.width);
  const DeviceArray<int32_t> device_sizes(sizes);
  RoiPoolShape device_shape = shape;
  if (shape.images > 1) {
    shape.sizes = sizes.data();
    device_shape.sizes = device_sizes.data();
  }

  std::vector<T> expected(grad.size());
  std::vector<int32_t> expected_argmax(grad.size());
  RoiPool(shape, features.data(), boxes.data(), indices.data(), 0, regions, expected.data(),
          expected_argmax.data());
  CheckLaunch(LaunchRoiPool(device_shape, type, device_features.data(), device_boxes.data(),
                            device_indices.data(), regions, output.data(), argmax.data(),
                            nullptr));
  ExpectClose("roi_pool", output.Values(), expected, 0.0f);
  ExpectEqual("roi_pool's argmax", argmax.Values().data(), expected_argmax.data(),
              static_cast<int64_t>(grad.size()));

  std::vector<float> expected_gradient(features.size(), 0.0f);
  for (int64_t task = 0; task < RoiPoolGradientTasks(shape); ++task)
    RoiPoolGradient(shape, grad.data(), expected_argmax.data(), indices.data(), regions, task,
                    expected_gradient.data());
  CheckLaunch(LaunchRoiPoolGradient(device_shape, type, device_grad.data(), argmax.data(),
                                    device_indices.data(), regions, gradient.data(), nullptr));
  ExpectClose("roi_pool's gradient", gradient.Values(), expected_gradient, 0.0f);
}

void TestRoiPools() {
  for (const bool hostile : {false, true}) {
    TestRoiPool<float>({2, 19, 9, 4, 3, 2, 0.125f, nullptr}, FloatType::kFloat, hostile);
    TestRoiPool<float>({1, 16, 5, 131, 2, 3, 0.5f, nullptr}, FloatType::kFloat, hostile);
    TestRoiPool<Half>({1, 6, 7, 16, 2, 2, 0.125f, nullptr}, FloatType::kHalf, hostile);
    TestRoiPool<BFloat16>({1, 6, 7, 3, 2, 2, 0.125f, nullptr}, FloatType::kBFloat16, hostile);
  }
  const RoiPoolShape shape = {1, 5, 6, 3, 2, 2, 1.0f, nullptr};
  const DeviceArray<float> boxes(std::vector<float>{0, 0, 4, 4, 0, 0, 4, 4});
  const DeviceArray<int32_t> indices(std::vector<int32_t>{-1, 1}), argmax(2 * 4 * 3);
  const DeviceArray<float> features(std::vector<float>(5 * 6 * 3, 1.0f)), output(2 * 4 * 3);
  CheckLaunch(LaunchRoiPool(shape, FloatType::kFloat, features.data(), boxes.data(),
                            indices.data(), 2, output.data(), argmax.data(), nullptr));
  ExpectClose("missing image", output.Values(), std::vector<float>(2 * 4 * 3, 0.0f), 0.0f);
}

// Points in and around the map; or whatever numbers.
std::vector<float> PointsOf(int64_t n, bool hostile) {
  return hostile ? HostileNumbers(2 * n) : UniformVector<float>(2 * n, -0.2f, 1.2f);
}

// With several maps, each has its own size. Sums are the CPU's to the bit.
template <typename T>
void TestPointSample(PointSampleShape shape, FloatType type, int64_t rows, bool hostile) {
  const std::vector<float> points = PointsOf(rows * shape.points, hostile);
  const std::vector<int32_t> indices = ImagesOf(rows, shape.maps);
  const int64_t locations = shape.maps * shape.height * shape.width;
  const std::vector<T> features = UniformVector<T>(locations * shape.channels);
  const std::vector<T> grad = UniformVector<T>(rows * shape.points * shape.channels);
  const DeviceArray<T> device_features(features), device_grad(grad);
  const DeviceArray<T> output(grad.size()), gradient(features.size());
  const DeviceArray<float> device_points(points);
  const DeviceArray<int32_t> device_indices(indices);
  const std::vector<int32_t> sizes = SizesOf(shape.maps, shape.height, shape.width);
  const DeviceArray<int32_t> device_sizes(sizes);
  PointSampleShape device_shape = shape;
  if (shape.maps > 1) {
    shape.sizes = sizes.data();
    device_shape.sizes = device_sizes.data();
  }

  std::vector<T> expected(grad.size()), expected_gradient(features.size());
  PointSample(shape, features.data(), points.data(), indices.data(), 0, rows * shape.points,
              expected.data());
  CheckLaunch(LaunchPointSample(device_shape, type, device_features.data(), device_points.data(),
                                device_indices.data(), rows, output.data(), nullptr));
  ExpectClose("point_sample", output.Values(), expected, 0.0f);

  const PointSampleGradient reference(shape, points.data(), indices.data(), rows);
  for (int64_t task = 0; task < reference.tasks(); ++task)
    reference.Run(task, grad.data(), expected_gradient.data());
  CheckLaunch(LaunchPointSampleGradient(device_shape, type, device_grad.data(),
                                        device_points.data(), device_indices.data(), rows,
                                        gradient.data(), nullptr));
  ExpectClose("point_sample's gradient", gradient.Values(), expected_gradient, 0.0f);
}

void TestPointSamples() {
  for (const bool hostile : {false, true}) {
    // More points than a block's threads; a map of several tiles; more channels than a warp, or a
    // block, holds.
    TestPointSample<float>({3, 19, 9, 4, 150, nullptr}, FloatType::kFloat, 4, hostile);
    TestPointSample<float>({1, 5, 21, 131, 40, nullptr}, FloatType::kFloat, 2, hostile);
    TestPointSample<Half>({2, 6, 7, 16, 30, nullptr}, FloatType::kHalf, 3, hostile);
    TestPointSample<BFloat16>({1, 8, 8, 3, 30, nullptr}, FloatType::kBFloat16, 2, hostile);
  }
  TestPointSample<float>({2, 4, 4, 8, 5, nullptr}, FloatType::kFloat, 0, false);
  TestPointSample<float>({1, 4, 4, 8, 0, nullptr}, FloatType::kFloat, 2, false);
  const PointSampleShape shape = {1, 5, 6, 3, 1, nullptr};
  const DeviceArray<float> points(std::vector<float>{0.5f, 0.5f, 0.5f, 0.5f});
  const DeviceArray<int32_t> indices(std::vector<int32_t>{-1, 1});
  const DeviceArray<float> features(std::vector<float>(5 * 6 * 3, 1.0f)), output(2 * 3);
  const DeviceArray<float> grad(std::vector<float>(2 * 3, 1.0f)), gradient(5 * 6 * 3);
  CheckLaunch(LaunchPointSample(shape, FloatType::kFloat, features.data(), points.data(),
                                indices.data(), 2, output.data(), nullptr));
  ExpectClose("missing map", output.Values(), std::vector<float>(2 * 3, 0.0f), 0.0f);
  CheckLaunch(LaunchPointSampleGradient(shape, FloatType::kFloat, grad.data(), points.data(),
                                        indices.data(), 2, gradient.data(), nullptr));
  ExpectClose("missing map's gradient", gradient.Values(), std::vector<float>(5 * 6 * 3, 0.0f),
              0.0f);
}

// `levels` is how many scores there are, so that some are equal; boxes of 5 numbers are rotated.
void TestNms(int64_t n, int groups, int levels, double threshold, bool hostile, int numbers = 4) {
  const bool rotated = numbers == 5;
  std::vector<float> boxes = rotated ? RotatedBoxes(n, false) : RandomBoxes(n, 100, 100, 60);
  std::vector<float> scores(n);
  std::vector<int32_t> ids(n);
  for (int64_t i = 0; i < n; ++i) {
    scores[i] = static_cast<float>(generator() % levels) / static_cast<float>(levels) - 0.25f;
    ids[i] = static_cast<int32_t>(generator() % groups);
    if (hostile && i % 7 == 0) ids[i] = -1;
    if (hostile && i % 11 == 0) scores[i] = NAN;
    if (hostile && i % 13 == 0) scores[i] = i % 2 ? INFINITY : -0.0f;
    if (hostile && i % 17 == 0) ids[i] = std::numeric_limits<int32_t>::max();
  }
  const std::vector<float> others = HostileNumbers(hostile ? n / 2 * numbers : 0);
  std::copy(others.begin(), others.end(), boxes.begin());
  const std::unique_ptr<bool[]> expected(new bool[n]());
  const NmsOrder order = OrderForNms(boxes.data(), numbers, scores.data(), ids.data(), n);
  const auto suppress = rotated ? SuppressRotatedGroups : SuppressGroups;
  suppress(order, boxes.data(), threshold, 0, static_cast<int64_t>(order.groups.size()),
           expected.get());
  const DeviceArray<float> device_boxes(boxes), device_scores(scores);
  const DeviceArray<int32_t> device_ids(ids);
  const DeviceArray<char> workspace(NmsWorkspace(n, numbers)), keep(n);
  CheckLaunch(LaunchNms(device_boxes.data(), numbers, device_scores.data(), device_ids.data(), n,
                        threshold, workspace.data(), reinterpret_cast<bool*>(keep.data()),
                        nullptr));
  ExpectEqual("nms", keep.Values().data(), reinterpret_cast<const char*>(expected.get()), n);
}

// The two zeros are one score, so that the first of two equal boxes stays.
void TestNmsOfZeros() {
  const DeviceArray<float> boxes(std::vector<float>{0, 0, 4, 4, 0, 0, 4, 4});
  const DeviceArray<float> scores(std::vector<float>{-0.0f, 0.0f});
  const DeviceArray<int32_t> ids(std::vector<int32_t>{0, 0});
  const DeviceArray<char> workspace(NmsWorkspace(2, 4)), keep(2);
  CheckLaunch(LaunchNms(boxes.data(), 4, scores.data(), ids.data(), 2, 0.5, workspace.data(),
                        reinterpret_cast<bool*>(keep.data()), nullptr));
  ExpectEqual("nms of zeros", keep.Values().data(), std::vector<char>{1, 0}.data(), 2);
}

void TestNmses() {
  TestNmsOfZeros();
  TestNms(0, 1, 10, 0.5, false);
  TestNms(1, 1, 10, 0.5, false);
  TestNms(130, 1, 1000, 1.0 / 3.0, false);
  TestNms(700, 1, 20, 0.9, false);
  for (const bool hostile : {false, true}) {
    TestNms(150, 150, 20, 0.3, hostile);
    TestNms(1100, 3, 100, 0.7, hostile);
    TestNms(300, 3, 100, 0.3, hostile, 5);
  }
  TestNms(0, 1, 10, 0.5, false, 5);
  TestNms(4100, 300, 1000, 0.5, true);
  TestNms(4100, 2, 1000, 0.5, true);  // groups of more than a segment
}

void TestBoxIouRotated(int64_t n, int64_t m, bool hostile) {
  const std::vector<float> boxes1 = RotatedBoxes(n, hostile), boxes2 = RotatedBoxes(m, hostile);
  std::vector<float> expected(n * m);
  BoxIouRotated(boxes1.data(), n, boxes2.data(), 0, m, m, expected.data());
  const DeviceArray<float> device_boxes1(boxes1), device_boxes2(boxes2), output(n * m);
  const DeviceArray<char> workspace(BoxIouRotatedWorkspace(n, m));
  CheckLaunch(LaunchBoxIouRotated(device_boxes1.data(), n, device_boxes2.data(), m,
                                  workspace.data(), output.data(), nullptr));
  ExpectClose("box_iou_rotated", output.Values(), expected, 1e-6f);
  for (const float iou : expected)
    if (!(iou >= 0.0f && iou <= 1.0f)) Fail("box_iou_rotated is no IoU", iou);
}

// With several images, each has its own size in the features.
template <typename T>
void TestRoiAlignRotated(RoiAlignShape shape, FloatType type, bool hostile, float tolerance) {
  const int64_t regions = 14;
  const std::vector<float> boxes = RotatedBoxes(regions, hostile);
  const std::vector<int32_t> indices = ImagesOf(regions, shape.images);
  const int64_t bins = regions * shape.pooled_height * shape.pooled_width;
  const int64_t pixels = shape.images * shape.height * shape.width;
  const std::vector<T> features = UniformVector<T>(pixels * shape.channels);
  const std::vector<T> grad = UniformVector<T>(bins * shape.channels);
  const DeviceArray<T> device_features(features), device_grad(grad);
  const DeviceArray<T> output(grad.size()), gradient(features.size());
  const DeviceArray<float> device_boxes(boxes);
  const DeviceArray<int32_t> device_indices(indices);
  const std::vector<int32_t> sizes = SizesOf(shape.images, shape.height, shape.width);
  const DeviceArray<int32_t> device_sizes(sizes);
  RoiAlignShape device_shape = shape;
  if (shape.images > 1) {
    shape.sizes = sizes.data();
    device_shape.sizes = device_sizes.data();
  }

  std::vector<T> expected(grad.size());
  RoiAlignRotated(shape, features.data(), boxes.data(), indices.data(), 0, regions,
                  expected.data());
  CheckLaunch(LaunchRoiAlignRotated(device_shape, type, device_features.data(),
                                    device_boxes.data(), device_indices.data(), regions,
                                    output.data(), nullptr));
  ExpectClose("roi_align_rotated", output.Values(), expected, tolerance);

  std::vector<T> expected_gradient(features.size());
  const RoiAlignRotatedGradient reference(shape, boxes.data(), indices.data(), regions);
  for (int64_t task = 0; task < reference.tasks(); ++task)
    reference.Run(task, grad.data(), expected_gradient.data());
  CheckLaunch(LaunchRoiAlignRotatedGradient(device_shape, type, device_grad.data(),
                                            device_boxes.data(), device_indices.data(), regions,
                                            gradient.data(), nullptr));
  ExpectClose("roi_align_rotated's gradient", gradient.Values(), expected_gradient, tolerance);
}

void TestRotated() {
  for (const bool hostile : {false, true}) {
    TestBoxIouRotated(40, 70, hostile);
    for (const int ratio : {0, 2})
      TestRoiAlignRotated<float>({2, 6, 9, 4, 3, 2, 0.125f, ratio, true, nullptr},
                                 FloatType::kFloat, hostile, 2e-5f);
    TestRoiAlignRotated<float>({1, 12, 7, 132, 2, 2, 0.125f, 0, true, nullptr},
                               FloatType::kFloat, hostile, 2e-5f);
    TestRoiAlignRotated<Half>({1, 6, 7, 16, 2, 2, 0.125f, 0, true, nullptr}, FloatType::kHalf,
                              hostile, 4e-3f);
    TestRoiAlignRotated<BFloat16>({1, 6, 7, 3, 2, 2, 0.125f, 0, true, nullptr},
                                  FloatType::kBFloat16, hostile, 4e-2f);
  }
  TestBoxIouRotated(0, 3, false);
  TestBoxIouRotated(3, 0, false);
}

void TestResize(int64_t height, int64_t width, int64_t new_height, int64_t new_width,
                int64_t channels) {
  std::vector<uint8_t> image(height * width * channels);
  for (uint8_t& value : image) value = static_cast<uint8_t>(generator());
  std::vector<uint8_t> expected(new_height * new_width * channels);
  ImageResize(height, width, channels, new_height, new_width)
      .Rows(image.data(), width * channels, 0, new_height, expected.data());
  const ResizeShape shape = {height, width, channels, new_height, new_width};
  const DeviceArray<uint8_t> device_image(image), output(expected.size());
  const DeviceArray<char> workspace(ResizeWorkspace(shape));
  CheckLaunch(
      LaunchResize(shape, device_image.data(), workspace.data(), output.data(), nullptr));
  ExpectEqual("resize", output.Values().data(), expected.data(),
              static_cast<int64_t>(expected.size()));
}

void TestResizes() {
  for (int i = 0; i < 16; ++i) {
    TestResize(1 + generator() % 40, 1 + generator() % 40, 1 + generator() % 60,
               1 + generator() % 60, 1 + generator() % 4);
  }
  TestResize(20, 30, 20, 30, 3);
  TestResize(20, 30, 20, 7, 3);
  TestResize(20, 30, 45, 30, 3);
  TestResize(1, 700, 1, 2, 3);
}

void TestPasteMasks(int64_t side, float threshold, bool hostile) {
  const int64_t n = hostile ? 60 : 6, height = hostile ? 9 : 31, width = hostile ? 11 : 42;
  const std::vector<float> boxes = hostile ? HostileBoxes(n) : RandomBoxes(n, 40, 30, 40);
  const std::vector<float> masks = UniformVector<float>(n * side * side, 0.0f, 1.0f);
  const int64_t total = n * height * width;
  const std::unique_ptr<bool[]> expected(new bool[total]);
  PasteMasks(masks.data(), boxes.data(), side, height, width, threshold, 0, n, expected.get());
  const DeviceArray<float> device_masks(masks), device_boxes(boxes);
  const DeviceArray<char> output(total);
  CheckLaunch(LaunchPasteMasks(device_masks.data(), device_boxes.data(), n, side, height, width,
                               threshold, reinterpret_cast<bool*>(output.data()), nullptr));
  ExpectEqual("paste_masks", output.Values().data(),
              reinterpret_cast<const char*>(expected.get()), total);
}

void TestPasteMaskses() {
  for (const bool hostile : {false, true}) {
    TestPasteMasks(28, 0.5f, hostile);
    TestPasteMasks(5, 0.0f, hostile);  // where the border counts
    TestPasteMasks(1, 0.3f, hostile);
  }
}

void TestDecodeKeypoints(int64_t side, bool hostile) {
  const int64_t n = hostile ? 24 : 5, keypoints = 3, maps = n * keypoints;
  std::vector<float> boxes = hostile ? HostileBoxes(n) : RandomBoxes(n, 100, 100, 90);
  // One side of the largest is enough.
  for (size_t i = 0; hostile && i < boxes.size(); i += 4)
    boxes[i + 2 + i / 4 % 2] = boxes[i + i / 4 % 2] + Uniform(-5, 40);
  boxes[0] = boxes[1] = 0.0f;  // one of more rows than a block holds at a time
  boxes[2] = 40.3f;
  boxes[3] = 300.7f;
  std::vector<float> heatmaps = UniformVector<float>(n * side * side * keypoints);
  // Equal values, whose first counts.
  for (float& logit : heatmaps) logit = std::round(logit * 4.0f);
  if (hostile) {
    const float values[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 9; ++i) heatmaps[generator() % heatmaps.size()] = values[i % 3];
    for (int64_t p = 0; p < side * side; ++p) heatmaps[p * keypoints + 1] = NAN;
  }
  std::vector<float> expected(4 * maps);
  DecodeKeypoints(heatmaps.data(), boxes.data(), side, keypoints, 0, maps, expected.data());
  const DeviceArray<float> device_heatmaps(heatmaps), device_boxes(boxes), output(4 * maps);
  CheckLaunch(LaunchDecodeKeypoints(device_heatmaps.data(), device_boxes.data(), n, side,
                                    keypoints, output.data(), nullptr));
  const std::vector<float> actual = output.Values();
  for (int64_t i = 0; i < maps; ++i) {
    ExpectEqual("decode_keypoints", &actual[4 * i], &expected[4 * i], 3);
    // A sum of exponentials in another order.
    const float score = expected[4 * i + 3];
    if (std::isfinite(score) && !(std::fabs(actual[4 * i + 3] - score) <= 1e-5f * score))
      Fail("decode_keypoints' score", actual[4 * i + 3] - score);
  }
}

enum class Values { kOrdinary, kHostileOffsets, kHostileGradient };

void TestDeformConv(const DeformConvShape& s, bool modulated, Values kind) {
  const int64_t taps = s.deformable_groups * s.kernel_size();
  const std::vector<float> x = UniformVector<float>(s.images * s.height * s.width * s.channels);
  std::vector<float> offset = UniformVector<float>(s.positions() * taps * 2, -3, 3);
  const float values[] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f, 1e9f, -1.0f, 1.0f, 0.0f};
  for (size_t i = 0; kind == Values::kHostileOffsets && i < offset.size(); ++i)
    offset[i] = values[generator() % std::size(values)];
  const std::vector<float> mask =
      UniformVector<float>(modulated ? s.positions() * taps : 0, -0.5f, 1.0f);
  const std::vector<float> weight =
      UniformVector<float>(s.kernel_size() * s.group_channels() * s.out_channels);
  std::vector<float> dy = UniformVector<float>(s.positions() * s.out_channels);
  if (kind == Values::kHostileGradient) {
    dy[0] = NAN;
    dy[dy.size() / 2] = INFINITY;
  }
  const DeformConv convolution(
      s, {x.data(), offset.data(), modulated ? mask.data() : nullptr, weight.data()});
  std::vector<float> y(dy.size()), dx(x.size()), d_offset(offset.size()), d_mask(mask.size());
  std::vector<float> d_weight(weight.size());
  for (int64_t i = 0; i < convolution.position_tasks(); ++i) {
    convolution.Forward(i, y.data());
    convolution.OffsetAndMaskGradient(i, dy.data(), d_offset.data(),
                                      modulated ? d_mask.data() : nullptr);
  }
  for (int64_t i = 0; i < convolution.input_tasks(); ++i)
    convolution.InputGradient(i, dy.data(), dx.data());
  for (int64_t i = 0; i < convolution.weight_tasks(); ++i)
    convolution.WeightGradient(i, dy.data(), d_weight.data());

  const DeviceArray<float> device_x(x), device_offset(offset), device_mask(mask);
  const DeviceArray<float> device_weight(weight), device_dy(dy), output(y.size());
  const DeformConvInputs inputs = {device_x.data(), device_offset.data(),
                                   modulated ? device_mask.data() : nullptr,
                                   device_weight.data()};
  const DeviceArray<char> workspace(DeformConvWorkspace(s));
  CheckLaunch(LaunchDeformConv(s, inputs, workspace.data(), output.data(), nullptr));
  ExpectClose("deform_conv", output.Values(), y, 1e-5f);

  std::vector<std::vector<float>> first;
  for (int time = 0; time < (kind == Values::kOrdinary ? 2 : 1); ++time) {
    const DeviceArray<float> grads[] = {DeviceArray<float>(x.size()),
                                        DeviceArray<float>(offset.size()),
                                        DeviceArray<float>(mask.size()),
                                        DeviceArray<float>(weight.size())};
    const DeviceArray<char> gradient_workspace(DeformConvGradientWorkspace(s));
    CheckLaunch(LaunchDeformConvGradient(
        s, inputs, device_dy.data(), gradient_workspace.data(),
        {grads[0].data(), grads[1].data(), modulated ? grads[2].data() : nullptr,
         grads[3].data()},
        nullptr));
    const std::vector<float>* expected[] = {&dx, &d_offset, &d_mask, &d_weight};
    const char* names[] = {"d_x", "d_offset", "d_mask", "d_weight"};
    for (int i = 0; i < 4; ++i) {
      std::vector<float> actual = grads[i].Values(), wanted = *expected[i];
      if (time == 0) first.push_back(actual);
      if (i == 2 && !modulated) continue;
      ExpectEqual("deform_conv's gradient the second time", actual.data(), first[i].data(),
                  static_cast<int64_t>(actual.size()));
      // What is not finite stands in the same places, though infinite may be NaN.
      for (size_t j = 0; kind == Values::kHostileGradient && j < actual.size(); ++j) {
        if (std::isfinite(wanted[j]) || std::isfinite(actual[j])) continue;
        wanted[j] = actual[j] = 0.0f;
      }
      ExpectClose(names[i], actual, wanted, 1e-5f);
    }
  }
}

void TestDeformConvs() {
  const DeformConvShape grouped = {2, 5, 6, 12, 3, 3, 6, 3, 3, 2, 1, 1, 3, 2};
  const DeformConvShape dilated = {1, 6, 5, 8, 4, 3, 4, 3, 3, 1, 1, 2, 2, 4};
  for (const Values kind :
       {Values::kOrdinary, Values::kHostileOffsets, Values::kHostileGradient}) {
    TestDeformConv(grouped, true, kind);
    TestDeformConv(dilated, false, kind);
  }
  // More channels than lanes, and more outputs and positions than a tile; one of 1 x 1.
  TestDeformConv({1, 11, 7, 70, 9, 7, 67, 3, 1, 1, 0, 1, 1, 1}, true, Values::kHostileOffsets);
  TestDeformConv({3, 4, 4, 2, 4, 4, 2, 1, 1, 1, 0, 1, 1, 1}, false, Values::kOrdinary);
  // No pixels, but positions on the padding; no images.
  TestDeformConv({1, 0, 0, 4, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1}, true, Values::kOrdinary);
  TestDeformConv({0, 4, 4, 4, 4, 4, 2, 1, 1, 1, 0, 1, 1, 1}, true, Values::kOrdinary);
}

}  // namespace

int main() {
  TestRoiAligns();
  TestRoiPools();
  TestPointSamples();
  TestNmses();
  TestRotated();
  TestResizes();
  TestPasteMaskses();
  for (const bool hostile : {false, true}) {
    TestDecodeKeypoints(9, hostile);
    TestDecodeKeypoints(1, hostile);
  }
  TestDeformConvs();
  std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
