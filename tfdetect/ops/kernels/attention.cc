#include "attention.h"

#include <algorithm>
#include <cmath>

#include "instruction_set.h"
#include "portability.h"
#include "vector_maths.h"

// A panel is as many queries as two vectors have lanes. Everything of a panel is transposed: the
// queries' vectors, the logits and the sums have one query per lane, so that the softmax needs
// nothing across lanes, and its weights are where the second product reads them.
namespace tfdetect {
namespace {

// Keys whose logits are computed together: a panel of them stays in the nearest cache.
constexpr int64_t kBlock = 128;
// Queries of a task at most. For fewer, what it takes to fetch a block of keys and values shows:
// their rows are heads * depth numbers apart, each in a page of its own.
constexpr int64_t kQueries = 448;
// The widest panel, for which scratch is counted.
constexpr int64_t kWidest = 32;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Between rows of a block of keys or values: an odd number of cache lines, so that one column of
// them does not fall into few sets of the cache.
int64_t RowStride(int64_t depth) { return ((depth + 15) / 16 | 1) * 16; }

template <typename V>
constexpr int kLanes = sizeof(V) / sizeof(float);
template <typename V>
constexpr int kPanelOf = 2 * kLanes<V>;

// As many queries as the loops below take at a time.
int64_t PanelWidth() {
  return UsedInstructionSet() == InstructionSet::kAvx512 ? kPanelOf<Float16> : kPanelOf<Float8>;
}

// c [kRows, panel] = or += a (by its strides) [kRows, k] * b [k, panel].
template <typename V, int kRows>
TFDETECT_INLINE void ProductTile(const float* a, int64_t row_stride, int64_t column_stride,
                                 const float* b, int64_t k, bool add, float* c) {
  V sums[kRows][2];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < 2; ++v) sums[r][v] = V{};
  for (int64_t i = 0; i < k; ++i) {
    V low, high;
    Load(b + i * kPanelOf<V>, low);
    Load(b + i * kPanelOf<V> + kLanes<V>, high);
    for (int r = 0; r < kRows; ++r) {
      const float value = a[r * row_stride + i * column_stride];
      sums[r][0] += value * low;
      sums[r][1] += value * high;
    }
  }
  TFDETECT_UNROLL for (int r = 0; r < kRows; ++r) {
    TFDETECT_UNROLL for (int v = 0; v < 2; ++v) {
      float* to = c + r * kPanelOf<V> + v * kLanes<V>;
      V old = {};
      if (add) Load(to, old);
      Store(sums[r][v] + old, to);
    }
  }
}

// All rows, kMost at a time. Rather twice 4 than 6 and 2, too few to hide an addition's latency.
template <typename V, int kMost>
TFDETECT_INLINE void ProductLoop(const float* a, int64_t row_stride, int64_t column_stride,
                                 const float* b, int64_t rows, int64_t k, bool add, float* c) {
  int64_t row = 0;
  const auto at = [&](int64_t r) { return a + r * row_stride; };
  for (; rows - row >= kMost && rows - row != 8; row += kMost)
    ProductTile<V, kMost>(at(row), row_stride, column_stride, b, k, add, c + row * kPanelOf<V>);
  for (; rows - row >= 4; row += 4)
    ProductTile<V, 4>(at(row), row_stride, column_stride, b, k, add, c + row * kPanelOf<V>);
  for (; rows - row >= 2; row += 2)
    ProductTile<V, 2>(at(row), row_stride, column_stride, b, k, add, c + row * kPanelOf<V>);
  if (row < rows)
    ProductTile<V, 1>(at(row), row_stride, column_stride, b, k, add, c + row * kPanelOf<V>);
}
const auto Product = BestVersion<ProductLoop<Float8, 6>, ProductLoop<Float16, 12>>();

// to [columns, width] = or += factor * from [rows, columns] transposed, rows <= width; zeros beyond
// the rows.
template <typename T>
TFDETECT_INLINE void ToPanelLoop(const T* from, int64_t stride, int64_t rows, int64_t columns,
                                 int64_t width, float factor, bool add, float* to) {
  for (int64_t first = 0; first < width; first += 8) {
    const int64_t count = std::clamp<int64_t>(rows - first, 0, 8);
    int64_t column = 0;
    for (; column + 8 <= columns; column += 8) {
      Float8 m[8];
      for (int64_t i = 0; i < 8; ++i) {
        m[i] = Float8{};
        if (i < count) LoadFloats(from + (first + i) * stride + column, m[i]);
      }
      Transpose8(m);
      for (int64_t i = 0; i < 8; ++i) {
        float* at = to + (column + i) * width + first;
        Float8 old = {};
        if (add) Load(at, old);
        Store(m[i] * factor + old, at);
      }
    }
    for (; column < columns; ++column) {
      for (int64_t i = 0; i < 8; ++i) {
        float& at = to[column * width + first + i];
        const float value = i < count ? ToFloat(from[(first + i) * stride + column]) : 0.0f;
        at = factor * value + (add ? at : 0.0f);
      }
    }
  }
}
template <typename T>
const auto ToPanel = BestVersion<ToPanelLoop<T>>();

// The rows of `from` [count, depth] in float32, `to_stride` apart.
template <typename T>
TFDETECT_INLINE void CopyRowsLoop(const T* from, int64_t stride, int64_t count, int64_t depth,
                                  int64_t to_stride, float* to) {
  for (int64_t row = 0; row < count; ++row, from += stride, to += to_stride) {
    int64_t i = 0;
    for (; i + 8 <= depth; i += 8) {
      Float8 values;
      LoadFloats(from + i, values);
      Store(values, to + i);
    }
    for (; i < depth; ++i) to[i] = ToFloat(from[i]);
  }
}
template <typename T>
const auto CopyRows = BestVersion<CopyRowsLoop<T>>();

// The output [rows, depth] of the sums [depth, width], each query's divided by its `total`.
template <typename T>
TFDETECT_INLINE void FromPanelLoop(const float* sums, const float* total, int64_t rows,
                                   int64_t depth, int64_t width, int64_t stride, T* output) {
  for (int64_t first = 0; first < rows; first += 8) {
    const int64_t count = std::min<int64_t>(rows - first, 8);
    Float8 divisor;
    Load(total + first, divisor);
    for (int64_t column = 0; column < depth; column += 8) {
      const int64_t columns = std::min<int64_t>(depth - column, 8);
      Float8 m[8];
      for (int64_t i = 0; i < 8; ++i) {
        m[i] = Float8{};
        if (i >= columns) continue;
        Load(sums + (column + i) * width + first, m[i]);
        m[i] /= divisor;
      }
      Transpose8(m);
      alignas(32) float values[8][8];
      for (int64_t i = 0; i < 8; ++i) Store(m[i], values[i]);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < columns; ++j)
          FromFloat(values[i][j], output + (first + i) * stride + column + j);
    }
  }
}
template <typename T>
const auto FromPanel = BestVersion<FromPanelLoop<T>>();

// Adds its row's and its column's number to each logit [count, panel], of the keys from `key` on.
template <typename V>
TFDETECT_INLINE void AddRelativeLoop(const float* rel_h, const float* rel_w, int64_t columns,
                                     int64_t key, int64_t count, float* logits) {
  constexpr int64_t kPanel = kPanelOf<V>;
  int64_t row = key / columns, column = key % columns;
  for (int64_t i = 0; i < count; ++row, column = 0) {
    V of_row[2];
    for (int v = 0; v < 2; ++v) Load(rel_h + row * kPanel + v * kLanes<V>, of_row[v]);
    for (; column < columns && i < count; ++column, ++i) {
      for (int v = 0; v < 2; ++v) {
        V logit, of_column;
        Load(logits + i * kPanel + v * kLanes<V>, logit);
        Load(rel_w + column * kPanel + v * kLanes<V>, of_column);
        Store(logit + of_row[v] + of_column, logits + i * kPanel + v * kLanes<V>);
      }
    }
  }
}
const auto AddRelative = BestVersion<AddRelativeLoop<Float8>, AddRelativeLoop<Float16>>();

// Logits [count, panel] to weights relative to the largest logit so far; `largest`, `total` and the
// sums [depth, panel] follow it.
template <typename V>
TFDETECT_INLINE void SoftmaxBlockLoop(int64_t count, int64_t depth, float* logits, float* largest,
                                      float* total, float* sums) {
  constexpr int64_t kPanel = kPanelOf<V>;
  typedef typename IntegersOf<V>::Type I;
  V before[2], now[2], origin[2], factor[2], sum[2] = {};
  for (int v = 0; v < 2; ++v) {
    Load(largest + v * kLanes<V>, before[v]);
    now[v] = before[v];
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int v = 0; v < 2; ++v) {
      V logit;
      Load(logits + i * kPanel + v * kLanes<V>, logit);
      now[v] = logit > now[v] ? logit : now[v];
    }
  }
  for (int v = 0; v < 2; ++v) {
    Store(now[v], largest + v * kLanes<V>);
    // Where all logits are -inf so far, their weights are 0 and not NaN: others may follow.
    const V none = V{} - INFINITY;
    const I nothing = now[v] == none;
    Select(nothing, V{}, now[v], origin[v]);
    ExpOfNegative<V>(before[v] - origin[v], factor[v]);
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int v = 0; v < 2; ++v) {
      float* const at = logits + i * kPanel + v * kLanes<V>;
      V logit, weight;
      Load(at, logit);
      ExpOfNegative<V>(logit - origin[v], weight);
      sum[v] += weight;
      Store(weight, at);
    }
  }
  for (int v = 0; v < 2; ++v) {
    V old;
    Load(total + v * kLanes<V>, old);
    Store(old * factor[v] + sum[v], total + v * kLanes<V>);
  }
  for (int64_t i = 0; i < depth; ++i) {
    for (int v = 0; v < 2; ++v) {
      float* const at = sums + i * kPanel + v * kLanes<V>;
      V value;
      Load(at, value);
      Store(value * factor[v], at);
    }
  }
}
const auto SoftmaxBlock = BestVersion<SoftmaxBlockLoop<Float8>, SoftmaxBlockLoop<Float16>>();

}  // namespace

int64_t AttentionShape::tile() const {
  const int64_t tiles = std::max<int64_t>((queries + kQueries - 1) / kQueries, 1);
  return std::max<int64_t>(RoundUp((queries + tiles - 1) / tiles, kWidest), kWidest);
}

int64_t AttentionShape::tasks() const { return batch * heads * ((queries + tile() - 1) / tile()); }

int64_t AttentionShape::scratch() const {
  return kBlock * (2 * RowStride(depth) + kWidest) + tile() * (2 * depth + 2 + rows + columns);
}

template <typename T>
void Attention(const AttentionShape& s, const AttentionOperands<T>& o, int64_t task,
               float* scratch) {
  const int64_t width = PanelWidth();
  const int64_t tile = s.tile(), tiles = (s.queries + tile - 1) / tile;
  const int64_t first = task % tiles * tile, head = task / tiles % s.heads;
  const int64_t item = task / tiles / s.heads;
  const int64_t queries = std::min(tile, s.queries - first), stride = s.heads * s.depth;
  const int64_t panels = (queries + width - 1) / width, row_stride = RowStride(s.depth);
  const auto take = [&scratch](int64_t floats) {
    float* part = scratch;
    scratch += floats;
    return part;
  };
  float* const keys = take(kBlock * row_stride);
  float* const values = take(kBlock * row_stride);
  float* const logits = take(kBlock * width);
  float* const query_panels = take(panels * s.depth * width);
  float* const sums = take(panels * s.depth * width);
  float* const largest = take(panels * width);
  float* const total = take(panels * width);
  float* const rel_h = take(panels * s.rows * width);
  float* const rel_w = take(panels * s.columns * width);

  // Of a query's first number in [batch, queries, heads, length].
  const auto of_query = [&](int64_t query, int64_t length) {
    return ((item * s.queries + first + query) * s.heads + head) * length;
  };
  for (int64_t p = 0; p < panels; ++p) {
    const int64_t query = p * width, rows = std::min(width, queries - query);
    ToPanel<T>(o.query + of_query(query, s.depth), stride, rows, s.depth, width, s.scale, false,
               query_panels + p * s.depth * width);
    if (s.rows == 0) continue;
    ToPanel<T>(o.rel_h + of_query(query, s.rows), s.heads * s.rows, rows, s.rows, width, 1.0f,
               false, rel_h + p * s.rows * width);
    ToPanel<T>(o.rel_w + of_query(query, s.columns), s.heads * s.columns, rows, s.columns, width,
               1.0f, false, rel_w + p * s.columns * width);
  }
  std::fill_n(sums, panels * s.depth * width, 0.0f);
  std::fill_n(largest, panels * width, -INFINITY);
  std::fill_n(total, panels * width, 0.0f);

  for (int64_t key = 0; key < s.keys; key += kBlock) {
    const int64_t count = std::min(kBlock, s.keys - key);
    const int64_t from = ((item * s.keys + key) * s.heads + head) * s.depth;
    CopyRows<T>(o.key + from, stride, count, s.depth, row_stride, keys);
    CopyRows<T>(o.value + from, stride, count, s.depth, row_stride, values);
    for (int64_t p = 0; p < panels; ++p) {
      float* const panel_sums = sums + p * s.depth * width;
      Product(keys, row_stride, 1, query_panels + p * s.depth * width, count, s.depth, false,
              logits);
      if (s.rows > 0)
        AddRelative(rel_h + p * s.rows * width, rel_w + p * s.columns * width, s.columns, key,
                    count, logits);
      if (s.groups > 0) {
        const int64_t query = first + p * width;
        const int64_t row = (item % s.groups * s.heads + head) * s.queries + query;
        ToPanel<T>(o.bias + row * s.keys + key, s.keys, std::min(width, queries - p * width), count,
                   width, 1.0f, true, logits);
      }
      SoftmaxBlock(count, s.depth, logits, largest + p * width, total + p * width, panel_sums);
      Product(values, 1, row_stride, logits, s.depth, count, true, panel_sums);
    }
  }
  for (int64_t p = 0; p < panels; ++p)
    FromPanel<T>(sums + p * s.depth * width, total + p * width,
                 std::min(width, queries - p * width), s.depth, width, stride,
                 o.output + of_query(p * width, s.depth));
}

#define TFDETECT_INSTANTIATE(T)                                                                \
  template void Attention<T>(const AttentionShape&, const AttentionOperands<T>&, int64_t, float*);
TFDETECT_INSTANTIATE(float)
TFDETECT_INSTANTIATE(Half)
TFDETECT_INSTANTIATE(BFloat16)
#undef TFDETECT_INSTANTIATE

}  // namespace tfdetect
