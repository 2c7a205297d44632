#include "matmul_bfloat16.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "instruction_set.h"
#include "matmul_tile.h"
#include "portability.h"

// GCC 9 does not know them.
#if defined(TFDETECT_AVX512) && (defined(__clang__) || __GNUC__ >= 10)
#include <immintrin.h>
#define TFDETECT_BF16 \
  __attribute__((target("avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16")))
#endif

namespace tfdetect {
namespace {

template <typename V, typename From, typename To>
TFDETECT_INLINE void ConvertLoop(const From* from, int64_t count, To* to) {
  int64_t i = 0;
  for (; i + kLanes<V> <= count; i += kLanes<V>) {
    V value;
    LoadFloats(from + i, value);
    StoreFloats(value, to + i);
  }
  for (; i < count; ++i) FromFloat(ToFloat(from[i]), to + i);
}
const auto WidenBest =
    BestVersion<ConvertLoop<Float8, BFloat16, float>, ConvertLoop<Float16, BFloat16, float>>();
const auto NarrowBest =
    BestVersion<ConvertLoop<Float8, float, BFloat16>, ConvertLoop<Float16, float, BFloat16>>();

}  // namespace

void Widen(const BFloat16* from, int64_t count, float* to) { WidenBest(from, count, to); }
void Narrow(const float* from, int64_t count, BFloat16* to) { NarrowBest(from, count, to); }

void PackPairs(const BFloat16* b, int64_t row_stride, int64_t k, int64_t n, BFloat16* packed) {
  for (int64_t first = 0; first < n; first += kPanel) {
    for (int64_t i = 0; i < k; i += 2) {
      for (int64_t j = first; j < first + kPanel; ++j) {
        for (int64_t own = i; own < i + 2; ++own)
          *packed++ = own < k && j < n ? b[own * row_stride + j] : BFloat16{0};
      }
    }
  }
}

#ifdef TFDETECT_BF16

bool HasBfloat16Products() {
  static const bool has =
      UsedInstructionSet() == InstructionSet::kAvx512 && ProcessorHasBfloat16Products();
  return has;
}

namespace {

// The operands of one product.
struct Operands {
  const BFloat16* a;
  int64_t row_stride;
  const BFloat16* packed;
  int64_t panel_stride;
  int64_t m, k, n;
  Epilogue epilogue;
  float* c;
  int64_t c_stride;
};

// As that of matmul.cc, of pairs. 12 rows of 32 columns are 24 of the 32 registers.
template <int kRows, int kPanels>
TFDETECT_BF16 inline void Tile(const Operands& o, int64_t row, int64_t column) {
  const BFloat16* a = o.a + row * o.row_stride;
  const BFloat16* panel = o.packed + column / kPanel * o.panel_stride;
  __m512 sums[kRows][kPanels];
  TFDETECT_UNROLL for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kPanels; ++v) sums[r][v] = _mm512_setzero_ps();
  for (int64_t i = 0; i < o.k; i += 2) {
    __m512i b[kPanels];
    for (int v = 0; v < kPanels; ++v)
      b[v] = _mm512_loadu_si512(panel + v * o.panel_stride + kPanel * i);
    TFDETECT_UNROLL for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * o.row_stride + i, sizeof(pair));
      const __m512i both = _mm512_set1_epi32(pair);
      for (int v = 0; v < kPanels; ++v)
        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], (__m512bh)both, (__m512bh)b[v]);
    }
  }
  alignas(64) float values[kRows][kPanels * kPanel];
  TFDETECT_UNROLL for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kPanels; ++v) _mm512_store_ps(&values[r][v * kPanel], sums[r][v]);
  const Epilogue& e = o.epilogue;
  const int64_t at = row * o.c_stride + column;
  FinishTile<Float16>(values, o.n - column, e.bias ? e.bias + column : nullptr,
                      e.residual ? e.residual + at : nullptr, e.relu, o.c + at, o.c_stride);
}

// Rows from `row` on, kRows at a time while there are that many; the next row.
template <int kRows, int kPanels>
TFDETECT_BF16 inline int64_t Tiles(const Operands& o, int64_t row, int64_t column) {
  for (; row + kRows <= o.m; row += kRows) Tile<kRows, kPanels>(o, row, column);
  return row;
}

TFDETECT_BF16 void Multiply(const Operands& o) {
  int64_t column = 0;
  for (; column + 2 * kPanel <= o.n; column += 2 * kPanel) {
    int64_t row = Tiles<12, 2>(o, 0, column);
    row = Tiles<4, 2>(o, row, column);
    Tiles<1, 2>(o, row, column);
  }
  for (; column < o.n; column += kPanel) {
    const int64_t row = Tiles<12, 1>(o, 0, column);
    Tiles<1, 1>(o, row, column);
  }
}

}  // namespace

void MatMulPairs(const BFloat16* a, int64_t row_stride, const BFloat16* packed, int64_t m,
                 int64_t k, int64_t n, const Epilogue& epilogue, float* c, int64_t c_stride) {
  // As in MatMul.
  const bool copied = k >= kDepth * 3 / 2 && n >= 8 * kPanel;
  constexpr int64_t kCopyStride = kDepth * 3 / 2 + 32;
  const std::unique_ptr<BFloat16[]> rows(copied ? new BFloat16[m * kCopyStride] : nullptr);
  InParts(k, epilogue, c, [&](int64_t begin, int64_t depth, const Epilogue& part) {
    for (int64_t row = 0; copied && row < m; ++row)
      std::copy_n(a + row * row_stride + begin, depth, &rows[row * kCopyStride]);
    Multiply({copied ? rows.get() : a + begin, copied ? kCopyStride : row_stride,
              packed + begin * kPanel, k * kPanel, m, depth, n, part, c, c_stride});
  });
}

#else

bool HasBfloat16Products() { return false; }

void MatMulPairs(const BFloat16*, int64_t, const BFloat16*, int64_t, int64_t, int64_t,
                 const Epilogue&, float*, int64_t) {}

#endif

}  // namespace tfdetect
