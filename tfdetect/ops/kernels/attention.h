// Softmax attention by tiles of queries and blocks of keys (FlashAttention, Dao et al., 2022).
#ifndef TFDETECT_ATTENTION_H_
#define TFDETECT_ATTENTION_H_

#include <cstdint>

#include "half.h"

namespace tfdetect {

// Lengths of query and output [batch, queries, heads, depth], key and value [batch, keys, heads,
// depth], bias [groups, heads, queries, keys] (item b of the batch has bias[b % groups]; none
// where groups is 0), and rel_h and rel_w [batch, queries, heads, rows and columns] (rows * columns
// is keys; none where rows is 0).
struct AttentionShape {
  int64_t batch, queries, keys, heads, depth, groups, rows, columns;
  float scale;

  // Queries that a task has at most, and the tasks there are.
  int64_t tile() const;
  int64_t tasks() const;
  // Floats that a task needs.
  int64_t scratch() const;
};

template <typename T>
struct AttentionOperands {
  const T *query, *key, *value, *bias, *rel_h, *rel_w;
  T* output;
};

// A tile of one head's queries. Everything is float32 but what is read and written; a result does
// not depend on what else is in the batch.
template <typename T>
void Attention(const AttentionShape& shape, const AttentionOperands<T>& operands, int64_t task,
               float* scratch);

}  // namespace tfdetect

#endif  // TFDETECT_ATTENTION_H_
