// How the convolutions of a CPU divide their rows among threads, and their groups among matrices.
#ifndef TFDETECT_CONVOLUTION_TASKS_H_
#define TFDETECT_CONVOLUTION_TASKS_H_

#include <algorithm>
#include <cstdint>

#include "matmul.h"
#include "op_helpers.h"

namespace tfdetect {

// Rows (or tiles) that a thread takes at a time: enough that weights are not read too often, few
// enough that every thread has some; a multiple of the rows that are summed together.
inline int64_t RowsPerTask(tensorflow::OpKernelContext* context, int64_t rows, int64_t most) {
  const int64_t threads = context->device()->tensorflow_cpu_worker_threads()->num_threads;
  const int64_t share = (rows + 4 * threads - 1) / (4 * threads);
  return std::clamp<int64_t>((share + 11) / 12 * 12, 12, most);
}

// Calls function(begin, end) for parts of [0, rows) on TensorFlow's threads.
template <typename Function>
void ParallelRows(tensorflow::OpKernelContext* context, int64_t rows, int64_t most, int64_t cost,
                  const Function& function) {
  const int64_t step = RowsPerTask(context, rows, most);
  ParallelTasks(context, (rows + step - 1) / step, cost * step, [&](int64_t task) {
    function(task * step, std::min(rows, (task + 1) * step));
  });
}

// About the nanoseconds of so many products of a row.
inline int64_t CostOfProducts(int64_t products) { return products / 32; }

// Groups that are multiplied as one, with zeros between them, so that their outputs fill a panel.
inline int64_t MergedGroups(int64_t groups, int64_t outputs) {
  int64_t merged = 1;
  while (outputs / groups * merged < kPanel && groups % (merged * 2) == 0) merged *= 2;
  return merged;
}

}  // namespace tfdetect

#endif  // TFDETECT_CONVOLUTION_TASKS_H_
