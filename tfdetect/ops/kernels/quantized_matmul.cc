#include "quantized_matmul.h"

#include <algorithm>
#include <cstring>

#include "instruction_set.h"
#include "portability.h"

#ifdef TFDETECT_AVX2
#include <immintrin.h>
#endif

namespace tfdetect {
namespace {

// Of the sums, at a time: as much of a panel as half of the nearest cache holds, in int16.
constexpr int64_t kDepth = 512;

template <typename T>
void Pack(const T* b, int64_t k, int64_t n, int64_t part, T* packed) {
  for (int64_t first = 0; first < n; first += kPanel) {
    for (int64_t i = 0; i < RoundUp(k, part); i += part) {
      for (int64_t j = first; j < first + kPanel; ++j) {
        for (int64_t p = i; p < i + part; ++p) *packed++ = p < k && j < n ? b[p * n + j] : T{};
      }
    }
  }
}

// Row a of int16 or uint8 by a panel of parts of int16 or int8. Unsigned, where exceeding int32 is
// defined.
template <int64_t kPart, typename A, typename B>
void AddRow(const A* a, const B* panel, int64_t parts, int32_t* sums) {
  uint32_t totals[kPanel];
  for (int64_t j = 0; j < kPanel; ++j) totals[j] = sums[j];
  for (int64_t i = 0; i < parts; ++i, a += kPart, panel += kPart * kPanel) {
    for (int64_t j = 0; j < kPanel; ++j)
      for (int64_t p = 0; p < kPart; ++p)
        totals[j] += static_cast<uint32_t>(a[p] * panel[j * kPart + p]);
  }
  for (int64_t j = 0; j < kPanel; ++j) sums[j] = static_cast<int32_t>(totals[j]);
}

struct PairOperands {
  const int16_t* a;
  int64_t a_stride;
  const int16_t* panel;
  int64_t m, pairs;
  bool add;
  int32_t* sums;
  int64_t sums_stride;
};

struct QuadOperands {
  const uint8_t* a;
  int64_t a_stride;
  const int8_t* packed;
  int64_t panel_stride;
  int64_t m, quads, panels;
  const int32_t* initial;
  int32_t* sums;
  int64_t sums_stride;
};

void PairsPlain(const PairOperands& o) {
  for (int64_t row = 0; row < o.m; ++row) {
    int32_t* sums = o.sums + row * o.sums_stride;
    if (!o.add) std::fill_n(sums, kPanel, 0);
    AddRow<kPair>(o.a + row * o.a_stride, o.panel, o.pairs, sums);
  }
}

void QuadsPlain(const QuadOperands& o) {
  for (int64_t row = 0; row < o.m; ++row) {
    for (int64_t panel = 0; panel < o.panels; ++panel) {
      int32_t* sums = o.sums + row * o.sums_stride + panel * kPanel;
      std::copy_n(o.initial + panel * kPanel, kPanel, sums);
      AddRow<kQuad>(o.a + row * o.a_stride, o.packed + panel * o.panel_stride, o.quads, sums);
    }
  }
}

#ifdef TFDETECT_AVX2

template <typename T>
TFDETECT_INLINE int32_t LoadWord(const T* from) {
  int32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

template <int kRows>
TFDETECT_AVX2 TFDETECT_INLINE void PairTile(const PairOperands& o, int64_t row) {
  constexpr int kVectors = 2, kLanes = 8;
  const int16_t* a = o.a + row * o.a_stride;
  const int16_t* b = o.panel;
  int32_t* sums = o.sums + row * o.sums_stride;
  __m256i totals[kRows][kVectors];
  TFDETECT_UNROLL for (int r = 0; r < kRows; ++r) {
    TFDETECT_UNROLL for (int v = 0; v < kVectors; ++v) {
      const auto* from = reinterpret_cast<const __m256i*>(sums + r * o.sums_stride + v * kLanes);
      totals[r][v] = o.add ? _mm256_loadu_si256(from) : _mm256_setzero_si256();
    }
  }
  for (int64_t i = 0; i < o.pairs; ++i, a += kPair, b += kPair * kPanel) {
    const __m256i b0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));
    const __m256i b1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + kPanel));
    TFDETECT_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m256i pair = _mm256_set1_epi32(LoadWord(a + r * o.a_stride));
      totals[r][0] = _mm256_add_epi32(totals[r][0], _mm256_madd_epi16(pair, b0));
      totals[r][1] = _mm256_add_epi32(totals[r][1], _mm256_madd_epi16(pair, b1));
    }
  }
  TFDETECT_UNROLL for (int r = 0; r < kRows; ++r) {
    TFDETECT_UNROLL for (int v = 0; v < kVectors; ++v) {
      auto* to = reinterpret_cast<__m256i*>(sums + r * o.sums_stride + v * kLanes);
      _mm256_storeu_si256(to, totals[r][v]);
    }
  }
}

// 6 rows of 16 columns are 12 of the 16 registers. (Zen 3 reaches four fifths of its multipliers'
// rate, whose other pipes do the additions.)
TFDETECT_AVX2 void PairsAvx2(const PairOperands& o) {
  int64_t row = 0;
  for (; row + 6 <= o.m; row += 6) PairTile<6>(o, row);
  for (; row + 2 <= o.m; row += 2) PairTile<2>(o, row);
  for (; row < o.m; ++row) PairTile<1>(o, row);
}

// The sums of kRows rows and kPanels panels stay in registers.
template <int kRows, int kPanels>
TFDETECT_AVX512_VNNI TFDETECT_INLINE void QuadTile(const QuadOperands& o, int64_t row,
                                                   int64_t panel) {
  const uint8_t* a = o.a + row * o.a_stride;
  const int8_t* b = o.packed + panel * o.panel_stride;
  __m512i totals[kRows][kPanels];
  TFDETECT_UNROLL for (int p = 0; p < kPanels; ++p) {
    const __m512i initial = _mm512_loadu_si512(o.initial + (panel + p) * kPanel);
    TFDETECT_UNROLL for (int r = 0; r < kRows; ++r) totals[r][p] = initial;
  }
  for (int64_t i = 0; i < o.quads; ++i, a += kQuad, b += kQuad * kPanel) {
    __m512i weights[kPanels];
    TFDETECT_UNROLL for (int p = 0; p < kPanels; ++p)
      weights[p] = _mm512_loadu_si512(b + p * o.panel_stride);
    TFDETECT_UNROLL for (int r = 0; r < kRows; ++r) {
      const __m512i quad = _mm512_set1_epi32(LoadWord(a + r * o.a_stride));
      TFDETECT_UNROLL for (int p = 0; p < kPanels; ++p)
        totals[r][p] = _mm512_dpbusd_epi32(totals[r][p], quad, weights[p]);
    }
  }
  int32_t* sums = o.sums + row * o.sums_stride + panel * kPanel;
  TFDETECT_UNROLL for (int r = 0; r < kRows; ++r) {
    TFDETECT_UNROLL for (int p = 0; p < kPanels; ++p)
      _mm512_storeu_si512(sums + r * o.sums_stride + p * kPanel, totals[r][p]);
  }
}

template <int kPanels>
TFDETECT_AVX512_VNNI TFDETECT_INLINE void QuadRows(const QuadOperands& o, int64_t panel) {
  int64_t row = 0;
  for (; row + 12 <= o.m; row += 12) QuadTile<12, kPanels>(o, row, panel);
  for (; row + 4 <= o.m; row += 4) QuadTile<4, kPanels>(o, row, panel);
  for (; row < o.m; ++row) QuadTile<1, kPanels>(o, row, panel);
}

// 12 rows of 32 columns are 24 of the 32 registers.
TFDETECT_AVX512_VNNI void QuadsVnni(const QuadOperands& o) {
  int64_t panel = 0;
  for (; panel + 2 <= o.panels; panel += 2) QuadRows<2>(o, panel);
  for (; panel < o.panels; ++panel) QuadRows<1>(o, panel);
}

#endif

void (*BestPairs())(const PairOperands&) {
#ifdef TFDETECT_AVX2
  if (UsedInstructionSet() != InstructionSet::kBaseline) return PairsAvx2;
#endif
  return PairsPlain;
}
const auto kMultiplyPairs = BestPairs();

void (*BestQuads())(const QuadOperands&) {
#ifdef TFDETECT_AVX2
  if (UsesVnni()) return QuadsVnni;
#endif
  return QuadsPlain;
}
const auto kMultiplyQuads = BestQuads();

}  // namespace

void PackPairs(const int16_t* b, int64_t k, int64_t n, int16_t* packed) {
  Pack(b, k, n, kPair, packed);
}

void PackQuads(const int8_t* b, int64_t k, int64_t n, int8_t* packed) {
  Pack(b, k, n, kQuad, packed);
}

void MultiplyPairs(const int16_t* a, int64_t a_stride, const int16_t* packed, int64_t m, int64_t k,
                   int64_t panels, int32_t* sums, int64_t sums_stride) {
  const int64_t depth = RoundUp(k, kPair);
  for (int64_t panel = 0; panel < panels; ++panel) {
    for (int64_t begin = 0; begin == 0 || begin < depth; begin += kDepth) {
      const int64_t pairs = std::min(kDepth, depth - begin) / kPair;
      kMultiplyPairs({a + begin, a_stride, packed + (panel * depth + begin) * kPanel, m, pairs,
                     begin > 0, sums + panel * kPanel, sums_stride});
    }
  }
}

void MultiplyQuads(const uint8_t* a, int64_t a_stride, const int8_t* packed, int64_t m, int64_t k,
                   int64_t panels, const int32_t* initial, int32_t* sums, int64_t sums_stride) {
  const int64_t depth = RoundUp(k, kQuad);
  kMultiplyQuads({a, a_stride, packed, depth * kPanel, m, depth / kQuad, panels, initial, sums,
                  sums_stride});
}

}  // namespace tfdetect
