#include "winograd.h"

#include <algorithm>
#include <vector>

#include "half.h"
#include "instruction_set.h"
#include "matmul_bfloat16.h"
#include "portability.h"
#include "winograd_tiles.h"

namespace tfdetect {
namespace {

constexpr int64_t kLane = 8;

// The loops over a tile are unrolled by name, which GCC leaves out where it counts the cost of them
// before it knows of AVX2: what they hold would then be arrays in memory.

// B' d B of the 16 pixels of a tile: product k goes to output + k * stride.
template <typename T, typename Operand>
TFDETECT_INLINE void TransformInputLoop(const T* const pixels[kSide * kSide], int64_t channels,
                                        int64_t stride, Operand* output) {
  for (int64_t c = 0; c < channels; c += kLane) {
    Float8 rows[kSide][kSide];
    TFDETECT_UNROLL for (int x = 0; x < kSide; ++x) {
      Float8 d[kSide];
      TFDETECT_UNROLL for (int y = 0; y < kSide; ++y) LoadFloats(pixels[y * kSide + x] + c, d[y]);
      rows[0][x] = d[0] - d[2];
      rows[1][x] = d[1] + d[2];
      rows[2][x] = d[2] - d[1];
      rows[3][x] = d[1] - d[3];
    }
    TFDETECT_UNROLL for (int y = 0; y < kSide; ++y) {
      const Float8* d = rows[y];
      Operand* to = output + y * kSide * stride + c;
      StoreFloats(d[0] - d[2], to);
      StoreFloats(d[1] + d[2], to + stride);
      StoreFloats(d[2] - d[1], to + 2 * stride);
      StoreFloats(d[1] - d[3], to + 3 * stride);
    }
  }
}
template <typename T, typename Operand>
const auto TransformInput = BestVersion<TransformInputLoop<T, Operand>>();

// A' m A + bias of a tile's products, of which product k is at `products` + k * stride; outputs
// that are null lie beyond the map.
template <typename T>
TFDETECT_INLINE void TransformOutputLoop(const float* products, int64_t stride, int64_t channels,
                                         const float* bias, bool relu, T* const outputs[4]) {
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
      if (outputs[2 * y]) StoreFloats(left, outputs[2 * y] + c);
      if (outputs[2 * y + 1]) StoreFloats(right, outputs[2 * y + 1] + c);
    }
  }
}
template <typename T>
const auto TransformOutput = BestVersion<TransformOutputLoop<T>>();

}  // namespace

template <typename Operand>
void WinogradWeights(const float* weight, int64_t channels, int64_t out_channels,
                     Operand* packed) {
  // G w G' in double, rounded once (of bfloat16: to float32, and then once more).
  static const double g[kSide][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  const int64_t size = channels * out_channels;
  std::vector<Operand> matrix(size);
  for (int64_t k = 0; k < kWinogradProducts; ++k) {
    for (int64_t i = 0; i < size; ++i) {
      double sum = 0;
      for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 3; ++x)
          sum += g[k / kSide][y] * g[k % kSide][x] * weight[(y * 3 + x) * size + i];
      FromFloat(static_cast<float>(sum), &matrix[i]);
    }
    PackOperand(matrix.data(), out_channels, channels, out_channels,
                packed + k * PackedSize(channels, out_channels));
  }
}
template void WinogradWeights(const float*, int64_t, int64_t, float*);
template void WinogradWeights(const float*, int64_t, int64_t, BFloat16*);

template <typename T, typename Operand>
void WinogradTiles(const WinogradShape& shape, const T* x, const Operand* packed,
                   const float* bias, const int32_t* sizes, bool relu, int64_t begin, int64_t end,
                   float* scratch, T* y) {
  const int64_t count = end - begin, in = shape.channels, out = shape.out_channels;
  const std::vector<T> nothing(in, T{});
  const TileOrder order(shape, begin, end);
  float* products = scratch;
  Operand* transformed = reinterpret_cast<Operand*>(scratch + kWinogradProducts * count * out);
  for (int64_t tile = 0; tile < count; ++tile) {
    const T* pixels[kSide * kSide];
    TilePixels(shape, order.corners[tile], x, sizes, nothing.data(), pixels);
    TransformInput<T, Operand>(pixels, in, count * in, transformed + tile * in);
  }
  for (int64_t k = 0; k < kWinogradProducts; ++k) {
    const int64_t first = order.Begin(k), row = k * count + first;
    MatMulOperands(transformed + row * in, in, packed + k * PackedSize(in, out),
                   order.End(k) - first, in, out, {}, products + row * out, out);
  }
  for (int64_t tile = 0; tile < count; ++tile) {
    const Corner& corner = order.corners[tile];
    T* first = y + ((corner.image * shape.height + corner.y) * shape.width + corner.x) * out;
    T* const outputs[4] = {first, corner.right ? first + out : nullptr,
                           corner.below ? first + shape.width * out : nullptr,
                           corner.right && corner.below ? first + (shape.width + 1) * out
                                                        : nullptr};
    // What was not computed, it reads for outputs that are null.
    TransformOutput<T>(products + tile * out, count * out, out, bias, relu, outputs);
  }
}
#define TFDETECT_WINOGRAD(T, Operand)                                                          \
  template void WinogradTiles(const WinogradShape&, const T*, const Operand*, const float*,    \
                              const int32_t*, bool, int64_t, int64_t, float*, T*)
TFDETECT_WINOGRAD(float, float);
TFDETECT_WINOGRAD(BFloat16, float);
TFDETECT_WINOGRAD(BFloat16, BFloat16);
#undef TFDETECT_WINOGRAD

}  // namespace tfdetect
