#include "quantize.h"

#include <algorithm>

#include "instruction_set.h"
#include "portability.h"

#ifdef TFDETECT_AVX512
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace tfdetect {
namespace {

typedef uint8_t UInt16x8 __attribute__((vector_size(16)));
typedef int16_t Int16x16 __attribute__((vector_size(32)));

// Rounding is by the addition of 1.5 * 2^23, beside which there are no fractions; the bits of the
// sum are then as far from those of 1.5 * 2^23 as the rounded number is from 0, or farther.
constexpr float kRound = 12582912.0f;
constexpr int32_t kRoundBits = 0x4b400000;

TFDETECT_INLINE void ToBytes(const Float8& x, float inverse_scale, int32_t zero_point,
                             Int8x32& to) {
  const Int8x32 lowest = Int8x32{} + (kRoundBits - zero_point);
  const Int8x32 highest = lowest + 255;
  Float8 scaled = x * inverse_scale;
  scaled = (Float8)((Int8x32)scaled & (scaled == scaled));
  Int8x32 bits = (Int8x32)(scaled + kRound);
  bits = bits < lowest ? lowest : bits;
  bits = bits > highest ? highest : bits;
  to = bits - lowest;
}

// Sixteen numbers in [0, 255]. GCC takes vectors apart where they are converted as such.
TFDETECT_INLINE void StoreBytes(const Int8x32* from, uint8_t* to) {
  alignas(32) int32_t words[16];
  Store(from[0], words);
  Store(from[1], words + 8);
#ifdef __SSE2__
  const auto* parts = reinterpret_cast<const __m128i*>(words);
  const __m128i low = _mm_packs_epi32(_mm_load_si128(parts), _mm_load_si128(parts + 1));
  const __m128i high = _mm_packs_epi32(_mm_load_si128(parts + 2), _mm_load_si128(parts + 3));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(low, high));
#else
  for (int i = 0; i < 16; ++i) to[i] = static_cast<uint8_t>(words[i]);
#endif
}

TFDETECT_INLINE void LoadBytes(const uint8_t* from, Int8x32* to) {
  alignas(32) int32_t words[16];
#ifdef __SSE2__
  const __m128i zero = _mm_setzero_si128();
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  const __m128i low = _mm_unpacklo_epi8(bytes, zero), high = _mm_unpackhi_epi8(bytes, zero);
  auto* parts = reinterpret_cast<__m128i*>(words);
  _mm_store_si128(parts, _mm_unpacklo_epi16(low, zero));
  _mm_store_si128(parts + 1, _mm_unpackhi_epi16(low, zero));
  _mm_store_si128(parts + 2, _mm_unpacklo_epi16(high, zero));
  _mm_store_si128(parts + 3, _mm_unpackhi_epi16(high, zero));
#else
  for (int i = 0; i < 16; ++i) words[i] = from[i];
#endif
  Load(words, to[0]);
  Load(words + 8, to[1]);
}

TFDETECT_INLINE void QuantizeSixteen(const float* x, float inverse_scale, int32_t zero_point,
                                     uint8_t* to) {
  Int8x32 bytes[2];
  TFDETECT_UNROLL for (int i = 0; i < 2; ++i) {
    Float8 value;
    Load(x + 8 * i, value);
    ToBytes(value, inverse_scale, zero_point, bytes[i]);
  }
  StoreBytes(bytes, to);
}

TFDETECT_INLINE void QuantizeLoop(const float* x, int64_t count, float inverse_scale,
                                  int32_t zero_point, uint8_t* to) {
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) QuantizeSixteen(x + i, inverse_scale, zero_point, to + i);
  if (i == count) return;
  float last[16] = {};
  uint8_t last_bytes[16];
  std::copy(x + i, x + count, last);
  QuantizeSixteen(last, inverse_scale, zero_point, last_bytes);
  std::copy_n(last_bytes, count - i, to + i);
}
const auto QuantizeBest = BestVersion<QuantizeLoop>();

TFDETECT_INLINE void WidenSixteen(const uint8_t* x, int16_t zero_point, int16_t* to) {
  UInt16x8 narrow;
  Load(x, narrow);
  Store(__builtin_convertvector(narrow, Int16x16) - zero_point, to);
}

TFDETECT_INLINE void WidenLoop(const uint8_t* x, int64_t count, int32_t zero_point, int16_t* to) {
  const int16_t shift = static_cast<int16_t>(zero_point);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) WidenSixteen(x + i, shift, to + i);
  if (i == count) return;
  if (count >= 16) return WidenSixteen(x + count - 16, shift, to + count - 16);  // some once more
  for (; i < count; ++i) to[i] = static_cast<int16_t>(x[i] - shift);
}
const auto WidenBest = BestVersion<WidenLoop>();

struct NoResidual {};

// Sixteen columns are two vectors.
TFDETECT_INLINE void AddResidual(const SumsOutput&, const NoResidual*, Float8*) {}
TFDETECT_INLINE void AddResidual(const SumsOutput&, const float* residual, Float8* sums) {
  TFDETECT_UNROLL for (int i = 0; i < 2; ++i) {
    Float8 added;
    Load(residual + 8 * i, added);
    sums[i] += added;
  }
}
TFDETECT_INLINE void AddResidual(const SumsOutput& o, const uint8_t* residual, Float8* sums) {
  Int8x32 bytes[2];
  LoadBytes(residual, bytes);
  TFDETECT_UNROLL for (int i = 0; i < 2; ++i) {
    const Float8 steps = __builtin_convertvector(bytes[i] - o.residual_zero_point, Float8);
    sums[i] += steps * o.residual_scale;
  }
}

TFDETECT_INLINE void StoreOutput(const SumsOutput&, const Float8* values, float* to) {
  Store(values[0], to);
  Store(values[1], to + 8);
}
TFDETECT_INLINE void StoreOutput(const SumsOutput& o, const Float8* values, uint8_t* to) {
  Int8x32 bytes[2];
  TFDETECT_UNROLL for (int i = 0; i < 2; ++i)
    ToBytes(values[i], o.inverse_scale, o.zero_point, bytes[i]);
  StoreBytes(bytes, to);
}

template <typename Residual, typename Output>
TFDETECT_INLINE void FinishSixteen(const SumsOutput& o, const int32_t* sums,
                                   const float* multiplier, const float* bias,
                                   const Residual* residual, Output* to) {
  Float8 values[2];
  TFDETECT_UNROLL for (int i = 0; i < 2; ++i) {
    Int8x32 sum;
    Float8 scale, shift;
    Load(sums + 8 * i, sum);
    Load(multiplier + 8 * i, scale);
    Load(bias + 8 * i, shift);
    values[i] = __builtin_convertvector(sum, Float8) * scale;
    values[i] += shift;
  }
  AddResidual(o, residual, values);
  TFDETECT_UNROLL for (int i = 0; i < 2; ++i)
    if (o.relu) values[i] = values[i] < Float8{} ? Float8{} : values[i];  // NaN stays NaN
  StoreOutput(o, values, to);
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
  SumsOutput o = output;
  // Where 0 is the least that a byte can be, ReLU changes nothing.
  if (sizeof(Output) == 1 && o.zero_point == 0) o.relu = false;
  const int64_t whole = columns / 16 * 16;
  for (int64_t r = 0; r < rows; ++r, sums += stride) {
    const int64_t from = residual_rows ? residual_rows[r] : row + r;
    const Residual* added = Offset(residual, from * o.channels + column);
    Output* out = to + (row + r) * o.channels + column;
    for (int64_t j = 0; j < whole; j += 16)
      FinishSixteen(o, sums + j, o.multiplier + column + j, o.bias + column + j, Offset(added, j),
                    out + j);
    if (whole == columns) continue;
    // What is left, in whole vectors.
    int32_t last[16] = {};
    float multiplier[16] = {}, bias[16] = {};
    Residual last_added[16] = {};
    Output last_out[16];
    for (int64_t j = 0; j < columns - whole; ++j) {
      last[j] = sums[whole + j];
      multiplier[j] = o.multiplier[column + whole + j];
      bias[j] = o.bias[column + whole + j];
      if (added) last_added[j] = added[whole + j];
    }
    FinishSixteen(o, last, multiplier, bias, last_added, last_out);
    for (int64_t j = 0; j < columns - whole; ++j) out[whole + j] = last_out[j];
  }
}

#ifdef TFDETECT_AVX512

// The same for AVX-512, by its own conversions between bytes and words, which GCC makes of no
// vector's. `mask` has the columns that there are, of sixteen.
TFDETECT_AVX512 TFDETECT_INLINE __m512 WithResidual(const SumsOutput&, __mmask16,
                                                    const NoResidual*, __m512 sums) {
  return sums;
}
TFDETECT_AVX512 TFDETECT_INLINE __m512 WithResidual(const SumsOutput&, __mmask16 mask,
                                                    const float* residual, __m512 sums) {
  return _mm512_add_ps(sums, _mm512_maskz_loadu_ps(mask, residual));
}
TFDETECT_AVX512 TFDETECT_INLINE __m512 WithResidual(const SumsOutput& o, __mmask16 mask,
                                                    const uint8_t* residual, __m512 sums) {
  const __m512i bytes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, residual));
  const __m512i steps = _mm512_sub_epi32(bytes, _mm512_set1_epi32(o.residual_zero_point));
  return _mm512_add_ps(
      sums, _mm512_mul_ps(_mm512_cvtepi32_ps(steps), _mm512_set1_ps(o.residual_scale)));
}

TFDETECT_AVX512 TFDETECT_INLINE void StoreWide(const SumsOutput&, __mmask16 mask, __m512 values,
                                               float* to) {
  _mm512_mask_storeu_ps(to, mask, values);
}
TFDETECT_AVX512 TFDETECT_INLINE void StoreWide(const SumsOutput& o, __mmask16 mask, __m512 values,
                                               uint8_t* to) {
  const __m512i lowest = _mm512_set1_epi32(kRoundBits - o.zero_point);
  const __m512i highest = _mm512_add_epi32(lowest, _mm512_set1_epi32(255));
  const __m512 scaled = _mm512_mul_ps(values, _mm512_set1_ps(o.inverse_scale));
  const __mmask16 numbers = _mm512_cmp_ps_mask(scaled, scaled, _CMP_ORD_Q);
  const __m512 rounded =
      _mm512_add_ps(_mm512_maskz_mov_ps(numbers, scaled), _mm512_set1_ps(kRound));
  __m512i bits = _mm512_castps_si512(rounded);
  bits = _mm512_min_epi32(_mm512_max_epi32(bits, lowest), highest);
  _mm_mask_storeu_epi8(to, mask, _mm512_cvtepi32_epi8(_mm512_sub_epi32(bits, lowest)));
}

template <typename Residual, typename Output>
TFDETECT_AVX512 void FinishWide(const SumsOutput& o, const Residual* residual, Output* to,
                                const int32_t* sums, int64_t stride, int64_t row, int64_t rows,
                                int64_t column, int64_t columns, const int64_t* residual_rows) {
  for (int64_t r = 0; r < rows; ++r, sums += stride) {
    const int64_t from = residual_rows ? residual_rows[r] : row + r;
    const Residual* added = Offset(residual, from * o.channels + column);
    Output* out = to + (row + r) * o.channels + column;
    for (int64_t j = 0; j < columns; j += 16) {
      const auto mask = static_cast<__mmask16>((1u << std::min<int64_t>(columns - j, 16)) - 1);
      const __m512 scale = _mm512_maskz_loadu_ps(mask, o.multiplier + column + j);
      const __m512 shift = _mm512_maskz_loadu_ps(mask, o.bias + column + j);
      __m512 values = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, sums + j));
      values = _mm512_add_ps(_mm512_mul_ps(values, scale), shift);
      values = WithResidual(o, mask, Offset(added, j), values);
      if (o.relu) {  // NaN stays NaN
        const __mmask16 below = _mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_LT_OQ);
        values = _mm512_mask_mov_ps(values, below, _mm512_setzero_ps());
      }
      StoreWide(o, mask, values, out + j);
    }
  }
}

#endif

template <typename Residual, typename Output>
decltype(&Versions<FinishLoop<Residual, Output>>::Baseline) BestFinish() {
#ifdef TFDETECT_AVX512
  if (UsedInstructionSet() == InstructionSet::kAvx512) return FinishWide<Residual, Output>;
#endif
  return BestVersion<FinishLoop<Residual, Output>>();
}
template <typename Residual, typename Output>
const auto kFinish = BestFinish<Residual, Output>();

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
