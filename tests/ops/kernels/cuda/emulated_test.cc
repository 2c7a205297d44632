// The CUDA kernels, run by emulated_gpu.h, against the CPU's files; prints what differs.

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

#include "half.h"
#include "roi_align.h"
#include "roi_align_gpu.h"

namespace {

using namespace tfdetect;

int failures = 0;
std::mt19937 generator(1);

float Uniform(float low, float high) {
  return std::uniform_real_distribution<float>(low, high)(generator);
}

std::vector<float> Boxes(bool hostile) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float values[] = {NAN, infinity, -infinity, 3e38f, -3e38f, 1e9f, -1e9f, 1e5f, -40.0f, 60.0f,
                          0.0f, 1.0f, 3.5f, 1e-30f};
  std::vector<float> boxes;
  for (int i = 0; i < 14; ++i) {
    if (hostile) {
      for (int k = 0; k < 4; ++k) boxes.push_back(values[generator() % std::size(values)]);
    } else {
      const float x = Uniform(-20, 100), y = Uniform(-20, 80);
      boxes.insert(boxes.end(), {x, y, x + Uniform(0, 100), y + Uniform(0, 60)});
    }
  }
  return boxes;
}

template <typename T>
std::vector<T> UniformVector(int64_t n) {
  std::vector<T> values(n);
  for (T& value : values) FromFloat(Uniform(-1, 1), &value);
  return values;
}

template <typename T>
void ExpectClose(const char* what, const std::vector<T>& actual, const std::vector<T>& expected,
                 float tolerance) {
  float worst = 0.0f, scale = 1.0f;
  for (size_t i = 0; i < actual.size(); ++i) {
    const float difference = std::fabs(ToFloat(actual[i]) - ToFloat(expected[i]));
    worst = std::isfinite(difference) ? std::max(worst, difference) : INFINITY;
    scale = std::max(scale, std::fabs(ToFloat(expected[i])));
  }
  if (worst <= tolerance * scale) return;
  ++failures;
  std::printf("%s: differs by %g of %g\n", what, worst, scale);
}

template <typename T>
void TestRoiAlign(const RoiAlignShape& shape, FloatType type, bool hostile, float tolerance) {
  const std::vector<float> boxes = Boxes(hostile);
  const int64_t regions = static_cast<int64_t>(boxes.size()) / 4;
  std::vector<int32_t> indices(regions);
  for (int32_t& index : indices) index = static_cast<int32_t>(generator() % shape.images);
  const int64_t bins = regions * shape.pooled_height * shape.pooled_width;
  const int64_t pixels = shape.images * shape.height * shape.width;
  const std::vector<T> features = UniformVector<T>(pixels * shape.channels);
  const std::vector<T> grad = UniformVector<T>(bins * shape.channels);
  std::vector<T> expected(grad.size()), actual(grad.size(), T());
  RoiAlign(shape, features.data(), boxes.data(), indices.data(), 0, regions, expected.data());
  LaunchRoiAlign(shape, type, features.data(), boxes.data(), indices.data(), regions,
                 actual.data(), nullptr);
  ExpectClose("roi_align", actual, expected, tolerance);

  std::vector<T> expected_gradient(features.size()), gradient(features.size(), T());
  RoiAlignGradient reference(shape, boxes.data(), indices.data(), regions);
  reference.Sample(0, regions);
  reference.Distribute();
  for (int64_t task = 0; task < reference.tasks(); ++task)
    reference.Run(task, grad.data(), expected_gradient.data());
  LaunchRoiAlignGradient(shape, type, grad.data(), boxes.data(), indices.data(), regions,
                         gradient.data(), nullptr);
  ExpectClose("roi_align's gradient", gradient, expected_gradient, tolerance);
}

void TestMissingImage() {
  const RoiAlignShape shape = {1, 5, 6, 3, 2, 2, 1.0f, 0, true};
  const std::vector<float> boxes = {0, 0, 4, 4, 0, 0, 4, 4};
  const std::vector<int32_t> indices = {-1, 1};
  const std::vector<float> features(5 * 6 * 3, 1.0f), grad(2 * 4 * 3, 1.0f);
  std::vector<float> output(grad.size(), 7.0f), gradient(features.size(), 7.0f);
  LaunchRoiAlign(shape, FloatType::kFloat, features.data(), boxes.data(), indices.data(), 2,
                 output.data(), nullptr);
  ExpectClose("missing image", output, std::vector<float>(grad.size(), 0.0f), 0.0f);
  LaunchRoiAlignGradient(shape, FloatType::kFloat, grad.data(), boxes.data(), indices.data(), 2,
                         gradient.data(), nullptr);
  ExpectClose("missing image's gradient", gradient, std::vector<float>(features.size(), 0.0f),
              0.0f);
}

}  // namespace

int main() {
  for (const bool hostile : {false, true}) {
    for (const bool aligned : {true, false}) {
      for (const int ratio : {0, 2}) {
        TestRoiAlign<float>({2, 6, 9, 4, 3, 2, 0.125f, ratio, aligned}, FloatType::kFloat,
                            hostile, 1e-5f);
      }
    }
    // More bins than lanes; more channels than a warp holds; more rows than lanes.
    TestRoiAlign<float>({1, 36, 5, 5, 2, 34, 0.5f, 0, true}, FloatType::kFloat, hostile, 1e-5f);
    TestRoiAlign<float>({1, 6, 7, 132, 2, 2, 0.125f, 0, true}, FloatType::kFloat, hostile, 1e-5f);
    TestRoiAlign<Half>({1, 6, 7, 16, 2, 2, 0.125f, 0, true}, FloatType::kHalf, hostile, 2e-3f);
    TestRoiAlign<BFloat16>({1, 6, 7, 3, 2, 2, 0.125f, 0, false}, FloatType::kBFloat16, hostile,
                           2e-2f);
  }
  TestMissingImage();
  std::printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
