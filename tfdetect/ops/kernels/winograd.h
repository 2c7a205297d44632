// 3 x 3 convolution of stride 1 by Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray,
// 2016): 16 products for four outputs where the definition has 36.
//
// Its rounding errors are of the size of a plain sum's, since every transform adds at most four
// numbers; larger tiles would save more and lose a digit.
#ifndef TFDETECT_WINOGRAD_H_
#define TFDETECT_WINOGRAD_H_

#include <cstdint>

#include "matmul.h"

namespace tfdetect {

struct WinogradShape {
  int64_t images, height, width, channels, out_channels;
  int64_t tile_rows() const { return (height + 1) / 2; }
  int64_t tile_columns() const { return (width + 1) / 2; }
  int64_t tiles() const { return images * tile_rows() * tile_columns(); }
};

// Products of a tile, each with a matrix of its own.
constexpr int64_t kWinogradProducts = 16;

// weight [3, 3, Cin, Cout] to 16 matrices [Cin, Cout] in panels (of pairs, of bfloat16). Cin and Cout
// are multiples of 8.
template <typename Operand>
void WinogradWeights(const float* weight, int64_t channels, int64_t out_channels, Operand* packed);

// Floats that `WinogradTiles` needs for `count` tiles.
inline int64_t WinogradScratch(const WinogradShape& shape, int64_t count) {
  return kWinogradProducts * count * (shape.channels + shape.out_channels);
}

// Tiles [begin, end) of x [B, H, W, Cin] to y [B, H, W, Cout], with bias [Cout]. Beyond sizes
// [B, 2], (height, width) at the top left of each image, x is taken for 0; null: nothing is beyond.
// Features and what is multiplied are both float, or features are bfloat16 and what is multiplied
// is float or, where `HasBfloat16Products`, bfloat16.
template <typename T, typename Operand>
void WinogradTiles(const WinogradShape& shape, const T* x, const Operand* packed,
                   const float* bias, const int32_t* sizes, bool relu, int64_t begin, int64_t end,
                   float* scratch, T* y);

// Floats between the tiles of a product's transformed input: not a power of two, which would put
// them into few sets of the caches.
inline int64_t WinogradInputStride(const WinogradShape& shape) { return shape.channels + 16; }

// For the gradient of the weight, of tiles [begin, end) of the `count` from `first` on: the
// transformed x to `input`, [16, count, WinogradInputStride], and the transformed gradient of y
// [B, H, W, Cout] to `upstream`, [16] matrices [count, Cout] in panels. Cout is a multiple of 16.
void WinogradGradientTiles(const WinogradShape& shape, const float* x, const float* gradient,
                           int64_t first, int64_t count, int64_t begin, int64_t end, float* input,
                           float* upstream);

// Rows [begin, end) of Cin of the gradient of the weight [3, 3, Cin, Cout], of the sums over all
// tiles of the products of what `WinogradGradientTiles` gives, [16, Cin, Cout].
void WinogradGradientOfWeight(const float* sums, int64_t channels, int64_t out_channels,
                              int64_t begin, int64_t end, float* gradient);

}  // namespace tfdetect

#endif  // TFDETECT_WINOGRAD_H_
