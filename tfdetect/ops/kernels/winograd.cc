#include "winograd.h"

#include <algorithm>
#include <vector>

#include "half.h"
#include "instruction_set.h"
#include "matmul_bfloat16.h"
#include "matmul_tile.h"
#include "portability.h"
#include "winograd_tiles.h"

namespace tfdetect {
namespace {

constexpr int64_t kLane = 8;

// The loops over a tile are unrolled by name, which GCC leaves out where it counts the cost of them
// before it knows of AVX2: what they hold would then be arrays in memory.

// B' d B of one vector of channels of the 16 pixels of a tile: product k goes to output + k * stride.
template <typename V, typename T, typename Operand>
TFDETECT_INLINE void TransformInputVector(const T* const pixels[kSide * kSide], int64_t channel,
                                          int64_t stride, Operand* output) {
  V rows[kSide][kSide];
  TFDETECT_UNROLL for (int x = 0; x < kSide; ++x) {
    V d[kSide];
    TFDETECT_UNROLL for (int y = 0; y < kSide; ++y)
      LoadFloats(pixels[y * kSide + x] + channel, d[y]);
    rows[0][x] = d[0] - d[2];
    rows[1][x] = d[1] + d[2];
    rows[2][x] = d[2] - d[1];
    rows[3][x] = d[1] - d[3];
  }
  TFDETECT_UNROLL for (int y = 0; y < kSide; ++y) {
    const V* d = rows[y];
    Operand* to = output + y * kSide * stride + channel;
    StoreFloats(d[0] - d[2], to);
    StoreFloats(d[1] + d[2], to + stride);
    StoreFloats(d[2] - d[1], to + 2 * stride);
    StoreFloats(d[1] - d[3], to + 3 * stride);
  }
}
// All channels, in vectors of V and what is left in the least.
template <typename V, typename T, typename Operand>
TFDETECT_INLINE void TransformInputLoop(const T* const pixels[kSide * kSide], int64_t channels,
                                        int64_t stride, Operand* output) {
  int64_t c = 0;
  for (; c + kLanes<V> <= channels; c += kLanes<V>)
    TransformInputVector<V>(pixels, c, stride, output);
  if (c < channels) TransformInputVector<Float8>(pixels, c, stride, output);
}
template <typename T, typename Operand>
const auto TransformInput =
    BestVersion<TransformInputLoop<Float8, T, Operand>, TransformInputLoop<Float16, T, Operand>>();

// A' m A + bias of one vector of channels of a tile's products, of which product k is at
// `products` + k * stride; outputs that are null lie beyond the map.
template <typename V, typename T>
TFDETECT_INLINE void TransformOutputVector(const float* products, int64_t stride, int64_t channel,
                                           const float* bias, bool relu, T* const outputs[4]) {
  V rows[2][kSide];
  TFDETECT_UNROLL for (int x = 0; x < kSide; ++x) {
    V m[kSide];
    TFDETECT_UNROLL for (int y = 0; y < kSide; ++y)
      Load(products + (y * kSide + x) * stride + channel, m[y]);
    rows[0][x] = m[0] + m[1] + m[2];
    rows[1][x] = m[1] - m[2] - m[3];
  }
  V shift;
  Load(bias + channel, shift);
  TFDETECT_UNROLL for (int y = 0; y < 2; ++y) {
    const V* m = rows[y];
    V left = m[0] + m[1] + m[2] + shift, right = m[1] - m[2] - m[3] + shift;
    if (relu) {  // NaN stays NaN
      left = left < V{} ? V{} : left;
      right = right < V{} ? V{} : right;
    }
    if (outputs[2 * y]) StoreFloats(left, outputs[2 * y] + channel);
    if (outputs[2 * y + 1]) StoreFloats(right, outputs[2 * y + 1] + channel);
  }
}
template <typename V, typename T>
TFDETECT_INLINE void TransformOutputLoop(const float* products, int64_t stride, int64_t channels,
                                         const float* bias, bool relu, T* const outputs[4]) {
  int64_t c = 0;
  for (; c + kLanes<V> <= channels; c += kLanes<V>)
    TransformOutputVector<V>(products, stride, c, bias, relu, outputs);
  if (c < channels) TransformOutputVector<Float8>(products, stride, c, bias, relu, outputs);
}
template <typename T>
const auto TransformOutput =
    BestVersion<TransformOutputLoop<Float8, T>, TransformOutputLoop<Float16, T>>();

// A e A' of the 2 x 2 gradients of a tile's outputs, to panels: product k goes to output + k * stride,
// its panel p from there on by p * panel_stride.
TFDETECT_INLINE void TransformGradientLoop(const float* const pixels[4], int64_t channels,
                                           int64_t stride, int64_t panel_stride, float* output) {
  for (int64_t c = 0; c < channels; c += kLane) {
    Float8 rows[kSide][2];
    TFDETECT_UNROLL for (int x = 0; x < 2; ++x) {
      Float8 upper, lower;
      Load(pixels[x] + c, upper);
      Load(pixels[2 + x] + c, lower);
      rows[0][x] = upper;
      rows[1][x] = upper + lower;
      rows[2][x] = upper - lower;
      rows[3][x] = -lower;
    }
    float* to = output + c / kPanel * panel_stride + c % kPanel;
    TFDETECT_UNROLL for (int y = 0; y < kSide; ++y, to += kSide * stride) {
      const Float8 left = rows[y][0], right = rows[y][1];
      Store(left, to);
      Store(left + right, to + stride);
      Store(left - right, to + 2 * stride);
      Store(-right, to + 3 * stride);
    }
  }
}
const auto TransformGradient = BestVersion<TransformGradientLoop>();

// G' u G of `count` numbers of each product, `stride` apart.
TFDETECT_INLINE void TransformSumsLoop(const float* sums, int64_t stride, int64_t count,
                                       float* gradient) {
  for (int64_t c = 0; c < count; c += kLane) {
    Float8 rows[3][kSide];
    TFDETECT_UNROLL for (int x = 0; x < kSide; ++x) {
      Float8 u[kSide];
      TFDETECT_UNROLL for (int y = 0; y < kSide; ++y) Load(sums + (y * kSide + x) * stride + c, u[y]);
      rows[0][x] = u[0] + 0.5f * (u[1] + u[2]);
      rows[1][x] = 0.5f * (u[1] - u[2]);
      rows[2][x] = 0.5f * (u[1] + u[2]) + u[3];
    }
    TFDETECT_UNROLL for (int y = 0; y < 3; ++y) {
      const Float8* u = rows[y];
      float* to = gradient + y * 3 * stride + c;
      Store(u[0] + 0.5f * (u[1] + u[2]), to);
      Store(0.5f * (u[1] - u[2]), to + stride);
      Store(0.5f * (u[1] + u[2]) + u[3], to + 2 * stride);
    }
  }
}
const auto TransformSums = BestVersion<TransformSumsLoop>();

// Where the weights of column 0 of a panel and of one input channel begin, and how far apart those of
// two columns are.
TFDETECT_INLINE int64_t OfChannel(int64_t channel, const float*) { return channel * kPanel; }
TFDETECT_INLINE int64_t OfChannel(int64_t channel, const BFloat16*) {
  return channel / 2 * 2 * kPanel + channel % 2;
}
template <typename Operand>
constexpr int64_t kColumnStride = sizeof(Operand) == sizeof(float) ? 1 : 2;

// G w G' in double, rounded once (of bfloat16: to float32, and then once more).
template <typename Operand>
TFDETECT_INLINE void WeightsLoop(const float* weight, int64_t channels, int64_t out_channels,
                                 Operand* packed) {
  const int64_t size = channels * out_channels, stride = PackedSize(channels, out_channels);
  for (int64_t first = 0; first < out_channels; first += kPanel, packed += channels * kPanel) {
    const int64_t columns = std::min(kPanel, out_channels - first);
    for (int64_t c = 0; c < channels; ++c) {
      double w[3][3][kPanel] = {}, rows[kSide][3][kPanel];
      for (int tap = 0; tap < 9; ++tap)
        for (int64_t j = 0; j < columns; ++j)
          w[tap / 3][tap % 3][j] = weight[tap * size + c * out_channels + first + j];
      for (int x = 0; x < 3; ++x) {
        for (int64_t j = 0; j < kPanel; ++j) {
          const double sides = 0.5 * (w[0][x][j] + w[2][x][j]), middle = 0.5 * w[1][x][j];
          rows[0][x][j] = w[0][x][j];
          rows[1][x][j] = sides + middle;
          rows[2][x][j] = sides - middle;
          rows[3][x][j] = w[2][x][j];
        }
      }
      Operand* to = packed + OfChannel(c, packed);
      for (int y = 0; y < kSide; ++y, to += kSide * stride) {
        float products[kSide][kPanel];
        for (int64_t j = 0; j < kPanel; ++j) {
          const double sides = 0.5 * (rows[y][0][j] + rows[y][2][j]), middle = 0.5 * rows[y][1][j];
          products[0][j] = static_cast<float>(rows[y][0][j]);
          products[1][j] = static_cast<float>(sides + middle);
          products[2][j] = static_cast<float>(sides - middle);
          products[3][j] = static_cast<float>(rows[y][2][j]);
        }
        for (int x = 0; x < kSide; ++x)
          for (int64_t j = 0; j < kPanel; ++j)
            FromFloat(products[x][j], to + x * stride + j * kColumnStride<Operand>);
      }
    }
  }
}
template <typename Operand>
const auto BestWeights = BestVersion<WeightsLoop<Operand>>();

}  // namespace

template <typename Operand>
void WinogradWeights(const float* weight, int64_t channels, int64_t out_channels,
                     Operand* packed) {
  BestWeights<Operand>(weight, channels, out_channels, packed);
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

void WinogradGradientTiles(const WinogradShape& shape, const float* x, const float* gradient,
                           int64_t first, int64_t count, int64_t begin, int64_t end, float* input,
                           float* upstream) {
  const int64_t in = shape.channels, out = shape.out_channels, stride = WinogradInputStride(shape);
  const std::vector<float> nothing(std::max(in, out), 0.0f);
  for (int64_t tile = begin; tile < end; ++tile) {
    const Corner corner(shape, tile);
    const float* pixels[kSide * kSide];
    TilePixels(shape, corner, x, nullptr, nothing.data(), pixels);
    TransformInput<float, float>(pixels, in, count * stride, input + (tile - first) * stride);
    const float* upper =
        gradient + ((corner.image * shape.height + corner.y) * shape.width + corner.x) * out;
    const float* lower = corner.below ? upper + shape.width * out : nothing.data();
    const float* const outputs[4] = {upper, corner.right ? upper + out : nothing.data(), lower,
                                     corner.right && corner.below ? lower + out : nothing.data()};
    TransformGradient(outputs, out, count * out, count * kPanel,
                      upstream + (tile - first) * kPanel);
  }
}

void WinogradGradientOfWeight(const float* sums, int64_t channels, int64_t out_channels,
                              int64_t begin, int64_t end, float* gradient) {
  TransformSums(sums + begin * out_channels, channels * out_channels,
                (end - begin) * out_channels, gradient + begin * out_channels);
}

}  // namespace tfdetect
