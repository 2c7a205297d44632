// 3 x 3 convolution of stride 1, exact in integers, by Winograd's F(2 x 2, 3 x 3) (winograd.h).
//
// Weights are transformed by 2 G, whose entries are 0, 1 and 2, so that the products give 4 times
// each sum: the lowest 32 bits of that are right, even if partial sums exceed them, while the sum
// itself lies within 2^29, which `CanUseQuantizedWinograd` sees to.
#ifndef TFDETECT_QUANTIZED_WINOGRAD_H_
#define TFDETECT_QUANTIZED_WINOGRAD_H_

#include <cstdint>

#include "quantize.h"
#include "winograd.h"

namespace tfdetect {

// Sums of 9 channels products of at most 255 * 128, times 4, fit into int32; and channels fill
// vectors.
inline bool CanUseQuantizedWinograd(int64_t channels) {
  return channels % 16 == 0 && channels * 9 * 255 * 128 * 4 <= INT32_MAX;
}

// Of the packed weights, in int16.
int64_t QuantizedWinogradSize(int64_t channels, int64_t out_channels);

// weight [3, 3, Cin, Cout] to 16 matrices [Cin, Cout] of pairs (quantized_matmul.h).
void QuantizedWinogradWeights(const int8_t* weight, int64_t channels, int64_t out_channels,
                              int16_t* packed);

// What `QuantizedWinogradTiles` needs for `count` tiles, in int32.
int64_t QuantizedWinogradScratch(const WinogradShape& shape, int64_t count);

// Tiles [begin, end) of x [B, H, W, Cin], whose zero point is given, to output [B, H, W, Cout].
// Beyond sizes [B, 2], (height, width) at the top left of each image, x is taken for the zero
// point; null: nothing is beyond.
void QuantizedWinogradTiles(const WinogradShape& shape, const uint8_t* x, int32_t zero_point,
                            const int16_t* packed, const int32_t* sizes, const SumsOutput& output,
                            int64_t begin, int64_t end, int32_t* scratch);

}  // namespace tfdetect

#endif  // TFDETECT_QUANTIZED_WINOGRAD_H_
