#include "quantized_winograd.h"

#include <algorithm>
#include <vector>

#include "instruction_set.h"
#include "portability.h"
#include "quantized_matmul.h"
#include "winograd_tiles.h"

namespace tfdetect {
namespace {

typedef uint8_t UInt16x8 __attribute__((vector_size(16)));
typedef int16_t Int16x16 __attribute__((vector_size(32)));

// B' d B of the 16 pixels of a tile, less their zero point: product k goes to output + k * stride.
TFDETECT_INLINE void TransformInputLoop(const uint8_t* const pixels[kSide * kSide],
                                        int32_t zero_point, int64_t channels, int64_t stride,
                                        int16_t* output) {
  // Only the product whose four pixels are all added has the zero point in it.
  const int16_t shift = static_cast<int16_t>(4 * zero_point);
  for (int64_t c = 0; c < channels; c += 16) {
    Int16x16 rows[kSide][kSide];
    TFDETECT_UNROLL for (int x = 0; x < kSide; ++x) {
      Int16x16 d[kSide];
      TFDETECT_UNROLL for (int y = 0; y < kSide; ++y) {
        UInt16x8 narrow;
        Load(pixels[y * kSide + x] + c, narrow);
        d[y] = __builtin_convertvector(narrow, Int16x16);
      }
      rows[0][x] = d[0] - d[2];
      rows[1][x] = d[1] + d[2];
      rows[2][x] = d[2] - d[1];
      rows[3][x] = d[1] - d[3];
    }
    TFDETECT_UNROLL for (int y = 0; y < kSide; ++y) {
      const Int16x16* d = rows[y];
      int16_t* to = output + y * kSide * stride + c;
      Store(d[0] - d[2], to);
      Store(y == 1 ? d[1] + d[2] - shift : d[1] + d[2], to + stride);
      Store(d[2] - d[1], to + 2 * stride);
      Store(d[1] - d[3], to + 3 * stride);
    }
  }
}
const auto TransformInput = BestVersion<TransformInputLoop>();

// A' m A / 4 of a tile's products, of which product k is at `products` + k * stride, to 4 rows of
// sums.
TFDETECT_INLINE void TransformOutputLoop(const int32_t* products, int64_t stride, int64_t channels,
                                         int32_t* sums) {
  for (int64_t c = 0; c < channels; c += 8) {
    // Unsigned, where exceeding int32 is defined.
    UInt8x32 rows[2][kSide];
    TFDETECT_UNROLL for (int x = 0; x < kSide; ++x) {
      UInt8x32 m[kSide];
      TFDETECT_UNROLL for (int y = 0; y < kSide; ++y)
        Load(products + (y * kSide + x) * stride + c, m[y]);
      rows[0][x] = m[0] + m[1] + m[2];
      rows[1][x] = m[1] - m[2] - m[3];
    }
    TFDETECT_UNROLL for (int y = 0; y < 2; ++y) {
      const UInt8x32* m = rows[y];
      Store((Int8x32)(m[0] + m[1] + m[2]) >> 2, sums + 2 * y * channels + c);
      Store((Int8x32)(m[1] - m[2] - m[3]) >> 2, sums + (2 * y + 1) * channels + c);
    }
  }
}
const auto TransformOutput = BestVersion<TransformOutputLoop>();

int64_t PaddedOutputs(const WinogradShape& shape) { return Panels(shape.out_channels) * kPanel; }

}  // namespace

int64_t QuantizedWinogradSize(int64_t channels, int64_t out_channels) {
  return kWinogradProducts * PackedSize(RoundUp(channels, kPair), out_channels);
}

void QuantizedWinogradWeights(const int8_t* weight, int64_t channels, int64_t out_channels,
                              int16_t* packed) {
  static const int g[kSide][3] = {{2, 0, 0}, {1, 1, 1}, {1, -1, 1}, {0, 0, 2}};
  const int64_t size = channels * out_channels;
  std::vector<int16_t> matrix(size);
  for (int64_t k = 0; k < kWinogradProducts; ++k) {
    for (int64_t i = 0; i < size; ++i) {
      int sum = 0;
      for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 3; ++x)
          sum += g[k / kSide][y] * g[k % kSide][x] * weight[(y * 3 + x) * size + i];
      matrix[i] = static_cast<int16_t>(sum);
    }
    PackPairs(matrix.data(), channels, out_channels, packed);
    packed += PackedSize(RoundUp(channels, kPair), out_channels);
  }
}

int64_t QuantizedWinogradScratch(const WinogradShape& shape, int64_t count) {
  const int64_t transformed = kWinogradProducts * count * shape.channels / 2;
  return transformed + (kWinogradProducts * count + 4) * PaddedOutputs(shape);
}

void QuantizedWinogradTiles(const WinogradShape& shape, const uint8_t* x, int32_t zero_point,
                            const int16_t* packed, const int32_t* sizes, const SumsOutput& output,
                            int64_t begin, int64_t end, int32_t* scratch) {
  const int64_t count = end - begin, in = shape.channels, out = PaddedOutputs(shape);
  const std::vector<uint8_t> nothing(in, static_cast<uint8_t>(zero_point));
  const TileOrder order(shape, begin, end);
  int32_t* sums = scratch;
  int32_t* products = sums + 4 * out;
  int16_t* transformed = reinterpret_cast<int16_t*>(products + kWinogradProducts * count * out);
  for (int64_t tile = 0; tile < count; ++tile) {
    const uint8_t* pixels[kSide * kSide];
    TilePixels(shape, order.corners[tile], x, sizes, nothing.data(), pixels);
    TransformInput(pixels, zero_point, in, count * in, transformed + tile * in);
  }
  for (int64_t k = 0; k < kWinogradProducts; ++k) {
    const int64_t first = order.Begin(k), row = k * count + first;
    MultiplyPairs(transformed + row * in, in, packed + k * PackedSize(in, out),
                  order.End(k) - first, in, out / kPanel, products + row * out, out);
  }
  for (int64_t tile = 0; tile < count; ++tile) {
    const Corner& corner = order.corners[tile];
    // What was not computed, it reads for sums that are not used.
    TransformOutput(products + tile * out, count * out, out, sums);
    for (int i = 0; i < 4; ++i) {
      if ((i / 2 && !corner.below) || (i % 2 && !corner.right)) continue;
      const int64_t y = corner.y + i / 2, line = corner.image * shape.height + y;
      const int64_t row = line * shape.width + corner.x + i % 2;
      const int64_t residual_row = output.ResidualRow(row);
      FinishSums(output, sums + i * out, out, row, 1, 0, shape.out_channels, &residual_row);
    }
  }
}

}  // namespace tfdetect
