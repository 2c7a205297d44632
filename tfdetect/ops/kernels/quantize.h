// Between float32 and uint8: value = (q - zero point) * scale. And what follows the exact sums of a
// quantized convolution, the same to the bit with every instruction set.
#ifndef TFDETECT_QUANTIZE_H_
#define TFDETECT_QUANTIZE_H_

#include <cstdint>

namespace tfdetect {

// x * inverse scale, rounded (ties to even), plus the zero point, in [0, 255]; NaN becomes the zero
// point.
void Quantize(const float* x, int64_t count, float inverse_scale, int32_t zero_point, uint8_t* to);

// x - zero point.
void Widen(const uint8_t* x, int64_t count, int32_t zero_point, int16_t* to);

// What becomes of the sums [rows, channels] of a convolution: each times multiplier [channels],
// plus bias [channels], plus a residual (float32 or uint8, or none), then ReLU, as float32 or
// uint8.
struct SumsOutput {
  int64_t channels = 0;
  const float* multiplier = nullptr;
  const float* bias = nullptr;
  bool relu = false;

  const float* float_residual = nullptr;
  const uint8_t* uint8_residual = nullptr;
  float residual_scale = 1.0f;
  int32_t residual_zero_point = 0;
  // 0, or the output's width, where the residual has half the output's height and width (both even)
  // and is upsampled 2x.
  int64_t upsampled_width = 0;

  float* floats = nullptr;
  uint8_t* bytes = nullptr;  // instead, with:
  float inverse_scale = 1.0f;
  int32_t zero_point = 0;

  // The residual's row for one of the output. (Images do not matter: their heights are even.)
  int64_t ResidualRow(int64_t row) const {
    if (upsampled_width == 0) return row;
    const int64_t y = row / upsampled_width / 2, x = row % upsampled_width / 2;
    return y * (upsampled_width / 2) + x;
  }
};

// Of `columns` columns from `column` on of rows [row, row + rows), whose sums are at `sums`, rows
// `stride` apart. The residual's rows are residual_rows[0, rows); null: the same as the output's.
void FinishSums(const SumsOutput& output, const int32_t* sums, int64_t stride, int64_t row,
                int64_t rows, int64_t column, int64_t columns, const int64_t* residual_rows);

}  // namespace tfdetect

#endif  // TFDETECT_QUANTIZE_H_
