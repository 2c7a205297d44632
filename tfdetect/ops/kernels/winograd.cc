#include "winograd.h"

#include <algorithm>
#include <vector>

#include "instruction_set.h"
#include "portability.h"
#include "winograd_tiles.h"

namespace tfdetect {
namespace {

constexpr int64_t kLane = 8;

// The loops over a tile are unrolled by name, which GCC leaves out where it counts the cost of them
// before it knows of AVX2: what they hold would then be arrays in memory.

// B' d B of the 16 pixels of a tile: product k goes to output + k * stride.
TFDETECT_INLINE void TransformInputLoop(const float* const pixels[kSide * kSide], int64_t channels,
                                        int64_t stride, float* output) {
  for (int64_t c = 0; c < channels; c += kLane) {
    Float8 rows[kSide][kSide];
    TFDETECT_UNROLL for (int x = 0; x < kSide; ++x) {
      Float8 d[kSide];
      TFDETECT_UNROLL for (int y = 0; y < kSide; ++y) Load(pixels[y * kSide + x] + c, d[y]);
      rows[0][x] = d[0] - d[2];
      rows[1][x] = d[1] + d[2];
      rows[2][x] = d[2] - d[1];
      rows[3][x] = d[1] - d[3];
    }
    TFDETECT_UNROLL for (int y = 0; y < kSide; ++y) {
      const Float8* d = rows[y];
      float* to = output + y * kSide * stride + c;
      Store(d[0] - d[2], to);
      Store(d[1] + d[2], to + stride);
      Store(d[2] - d[1], to + 2 * stride);
      Store(d[1] - d[3], to + 3 * stride);
    }
  }
}
const auto TransformInput = BestVersion<TransformInputLoop>();

// A' m A + bias of a tile's products, of which product k is at `products` + k * stride; outputs
// that are null lie beyond the map.
TFDETECT_INLINE void TransformOutputLoop(const float* products, int64_t stride, int64_t channels,
                                         const float* bias, bool relu, float* const outputs[4]) {
  for (int64_t c = 0; c < channels; c += kLane) {
    Float8 rows[2][kSide];
    TFDETECT_UNROLL for (int x = 0; x < kSide; ++x) {
      Float8 m[kSide];
      TFDETECT_UNROLL for (int y = 0; y < kSide; ++y)
        Load(products + (y * kSide + x) * stride + c, m[y]);
      rows[0][x] = m[0] + m[1] + m[2];
      rows[1][x] = m[1] - m[2] - m[3];
    }
    Float8 shift;
    Load(bias + c, shift);
    TFDETECT_UNROLL for (int y = 0; y < 2; ++y) {
      const Float8* m = rows[y];
      Float8 left = m[0] + m[1] + m[2] + shift, right = m[1] - m[2] - m[3] + shift;
      if (relu) {  // NaN stays NaN
        left = left < Float8{} ? Float8{} : left;
        right = right < Float8{} ? Float8{} : right;
      }
      if (outputs[2 * y]) Store(left, outputs[2 * y] + c);
      if (outputs[2 * y + 1]) Store(right, outputs[2 * y + 1] + c);
    }
  }
}
const auto TransformOutput = BestVersion<TransformOutputLoop>();

}  // namespace

void WinogradWeights(const float* weight, int64_t channels, int64_t out_channels, float* packed) {
  // G w G' in double, rounded once.
  static const double g[kSide][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  const int64_t size = channels * out_channels;
  std::vector<float> matrix(size);
  for (int64_t k = 0; k < kWinogradProducts; ++k) {
    for (int64_t i = 0; i < size; ++i) {
      double sum = 0;
      for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 3; ++x)
          sum += g[k / kSide][y] * g[k % kSide][x] * weight[(y * 3 + x) * size + i];
      matrix[i] = static_cast<float>(sum);
    }
    Pack(matrix.data(), out_channels, 1, channels, out_channels,
         packed + k * PackedSize(channels, out_channels));
  }
}

void WinogradTiles(const WinogradShape& shape, const float* x, const float* packed,
                   const float* bias, const int32_t* sizes, bool relu, int64_t begin, int64_t end,
                   float* scratch, float* y) {
  const int64_t count = end - begin, in = shape.channels, out = shape.out_channels;
  const std::vector<float> nothing(in, 0.0f);
  const TileOrder order(shape, begin, end);
  float* transformed = scratch;
  float* products = scratch + kWinogradProducts * count * in;
  for (int64_t tile = 0; tile < count; ++tile) {
    const float* pixels[kSide * kSide];
    TilePixels(shape, order.corners[tile], x, sizes, nothing.data(), pixels);
    TransformInput(pixels, in, count * in, transformed + tile * in);
  }
  for (int64_t k = 0; k < kWinogradProducts; ++k) {
    const int64_t first = order.Begin(k), row = k * count + first;
    MatMul(transformed + row * in, in, 1, packed + k * PackedSize(in, out), order.End(k) - first,
           in, out, {}, products + row * out, out);
  }
  for (int64_t tile = 0; tile < count; ++tile) {
    const Corner& corner = order.corners[tile];
    float* first =
        y + ((corner.image * shape.height + corner.y) * shape.width + corner.x) * out;
    float* const outputs[4] = {first, corner.right ? first + out : nullptr,
                               corner.below ? first + shape.width * out : nullptr,
                               corner.right && corner.below ? first + (shape.width + 1) * out
                                                            : nullptr};
    // What was not computed, it reads for outputs that are null.
    TransformOutput(products + tile * out, count * out, out, bias, relu, outputs);
  }
}

}  // namespace tfdetect
