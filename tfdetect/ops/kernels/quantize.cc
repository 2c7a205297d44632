#include "quantize.h"

#include "instruction_set.h"
#include "portability.h"

namespace tfdetect {
namespace {

typedef uint8_t UInt8x8 __attribute__((vector_size(8)));
typedef uint8_t UInt16x8 __attribute__((vector_size(16)));
typedef int16_t Int16x16 __attribute__((vector_size(32)));

// Rounding is by the addition of 1.5 * 2^23, beside which there are no fractions.
TFDETECT_INLINE void ToBytes(const Float8& x, float inverse_scale, int32_t zero_point,
                             Int8x32& to) {
  constexpr float kRound = 12582912.0f;
  constexpr int32_t kRoundBits = 0x4b400000;
  const float lowest = static_cast<float>(-zero_point);
  const float highest = static_cast<float>(255 - zero_point);
  Float8 scaled = x * inverse_scale;
  scaled = (Float8)((Int8x32)scaled & (scaled == scaled));
  scaled = scaled < lowest ? Float8{} + lowest : scaled;
  scaled = scaled > highest ? Float8{} + highest : scaled;
  to = (Int8x32)(scaled + kRound) - (kRoundBits - zero_point);
}

TFDETECT_INLINE void QuantizeLoop(const float* x, int64_t count, float inverse_scale,
                                  int32_t zero_point, uint8_t* to) {
  int64_t i = 0;
  Float8 value;
  Int8x32 byte;
  for (; i + 8 <= count; i += 8) {
    Load(x + i, value);
    ToBytes(value, inverse_scale, zero_point, byte);
    Store(__builtin_convertvector(byte, UInt8x8), to + i);
  }
  for (; i < count; ++i) {
    ToBytes(Float8{} + x[i], inverse_scale, zero_point, byte);
    to[i] = static_cast<uint8_t>(byte[0]);
  }
}
const auto QuantizeBest = BestVersion<QuantizeLoop>();

TFDETECT_INLINE void WidenLoop(const uint8_t* x, int64_t count, int32_t zero_point, int16_t* to) {
  const int16_t shift = static_cast<int16_t>(zero_point);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    UInt16x8 narrow;
    Load(x + i, narrow);
    Store(__builtin_convertvector(narrow, Int16x16) - shift, to + i);
  }
  for (; i < count; ++i) to[i] = static_cast<int16_t>(x[i] - shift);
}
const auto WidenBest = BestVersion<WidenLoop>();

struct NoResidual {};

TFDETECT_INLINE void AddResidual(const SumsOutput&, const NoResidual*, Float8&) {}
TFDETECT_INLINE void AddResidual(const SumsOutput&, const float* residual, Float8& sum) {
  Float8 added;
  Load(residual, added);
  sum += added;
}
TFDETECT_INLINE void AddResidual(const SumsOutput& o, const uint8_t* residual, Float8& sum) {
  UInt8x8 narrow;
  Load(residual, narrow);
  const Int8x32 steps = __builtin_convertvector(narrow, Int8x32) - o.residual_zero_point;
  sum += __builtin_convertvector(steps, Float8) * o.residual_scale;
}

TFDETECT_INLINE void StoreOutput(const SumsOutput&, const Float8& value, float* to) {
  Store(value, to);
}
TFDETECT_INLINE void StoreOutput(const SumsOutput& o, const Float8& value, uint8_t* to) {
  Int8x32 byte;
  ToBytes(value, o.inverse_scale, o.zero_point, byte);
  Store(__builtin_convertvector(byte, UInt8x8), to);
}

// Eight columns.
template <typename Residual, typename Output>
TFDETECT_INLINE void FinishEight(const SumsOutput& o, const int32_t* sums, const float* multiplier,
                                 const float* bias, const Residual* residual, Output* to) {
  Int8x32 sum;
  Float8 scale, shift;
  Load(sums, sum);
  Load(multiplier, scale);
  Load(bias, shift);
  Float8 value = __builtin_convertvector(sum, Float8) * scale;
  value += shift;
  AddResidual(o, residual, value);
  if (o.relu) value = value < Float8{} ? Float8{} : value;  // NaN stays NaN
  StoreOutput(o, value, to);
}

template <typename Residual>
TFDETECT_INLINE const Residual* Offset(const Residual* residual, int64_t offset) {
  return residual + offset;
}
TFDETECT_INLINE const NoResidual* Offset(const NoResidual*, int64_t) { return nullptr; }

template <typename Residual, typename Output>
TFDETECT_INLINE void FinishLoop(const SumsOutput& output, const Residual* residual, Output* to,
                                const int32_t* sums, int64_t stride, int64_t row, int64_t rows,
                                int64_t column, int64_t columns, const int64_t* residual_rows) {
  const SumsOutput o = output;
  const int64_t whole = columns / 8 * 8;
  for (int64_t r = 0; r < rows; ++r, sums += stride) {
    const int64_t from = residual_rows ? residual_rows[r] : row + r;
    const Residual* added = Offset(residual, from * o.channels + column);
    Output* out = to + (row + r) * o.channels + column;
    for (int64_t j = 0; j < whole; j += 8)
      FinishEight(o, sums + j, o.multiplier + column + j, o.bias + column + j, Offset(added, j),
                  out + j);
    if (whole == columns) continue;
    // What is left, in a whole vector.
    int32_t last[8] = {};
    float multiplier[8] = {}, bias[8] = {};
    Residual last_added[8] = {};
    Output last_out[8];
    for (int64_t j = 0; j < columns - whole; ++j) {
      last[j] = sums[whole + j];
      multiplier[j] = o.multiplier[column + whole + j];
      bias[j] = o.bias[column + whole + j];
      if (added) last_added[j] = added[whole + j];
    }
    FinishEight(o, last, multiplier, bias, last_added, last_out);
    for (int64_t j = 0; j < columns - whole; ++j) out[whole + j] = last_out[j];
  }
}

template <typename Residual, typename Output>
const auto kFinish = BestVersion<FinishLoop<Residual, Output>>();

template <typename Output, typename... Args>
void FinishTo(const SumsOutput& o, Output* to, const Args&... args) {
  if (o.float_residual)
    kFinish<float, Output>(o, o.float_residual, to, args...);
  else if (o.uint8_residual)
    kFinish<uint8_t, Output>(o, o.uint8_residual, to, args...);
  else
    kFinish<NoResidual, Output>(o, nullptr, to, args...);
}

}  // namespace

void Quantize(const float* x, int64_t count, float inverse_scale, int32_t zero_point, uint8_t* to) {
  QuantizeBest(x, count, inverse_scale, zero_point, to);
}

void Widen(const uint8_t* x, int64_t count, int32_t zero_point, int16_t* to) {
  WidenBest(x, count, zero_point, to);
}

void FinishSums(const SumsOutput& output, const int32_t* sums, int64_t stride, int64_t row,
                int64_t rows, int64_t column, int64_t columns, const int64_t* residual_rows) {
  if (output.bytes)
    FinishTo(output, output.bytes, sums, stride, row, rows, column, columns, residual_rows);
  else
    FinishTo(output, output.floats, sums, stride, row, rows, column, columns, residual_rows);
}

}  // namespace tfdetect
