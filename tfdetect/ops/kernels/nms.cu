// Non-maximum suppression on the GPU.
//
// The boxes are sorted by group, falling score and index (a bitonic network: the same order every
// time). Then a block of threads has a group to itself and goes through it 64 boxes at a time: the
// 64 settle among themselves which are kept, by a table of bits that one thread sweeps, and those
// suppress what follows in the group. Memory grows with the boxes, not with their pairs.
#include "gpu_kernels.h"
#include "nms.h"
#include "nms_gpu.h"

namespace tfdetect {
namespace {

constexpr int kThreads = 256;
constexpr int kSorted = 2 * kThreads;  // elements that a block sorts in its own memory
constexpr int kChunk = 64;             // boxes that settle among themselves
constexpr int kParts = kThreads / kChunk;
constexpr int kPart = kChunk / kParts;   // of a row of the table, by one thread
constexpr int64_t kMaxBlocks = 4096;     // that share the groups
constexpr uint64_t kNone = ~uint64_t{};  // the order of what is no candidate

struct alignas(16) Box {
  float x1, y1, x2, y2;
};

struct Workspace {
  Box* sorted;      // [n]
  uint64_t* order;  // [padded]: group, then falling score
  int32_t* index;   // [padded]: of the input; decides where the order is equal
  bool* suppressed; // [n], as sorted
};

int64_t Padded(int64_t n) {
  int64_t padded = kSorted;
  while (padded < n) padded *= 2;
  return padded;
}

Workspace Divide(void* memory, int64_t n) {
  Workspace workspace;
  workspace.sorted = static_cast<Box*>(memory);
  workspace.order = reinterpret_cast<uint64_t*>(workspace.sorted + n);
  workspace.index = reinterpret_cast<int32_t*>(workspace.order + Padded(n));
  workspace.suppressed = reinterpret_cast<bool*>(workspace.index + Padded(n));
  return workspace;
}

// A number that grows with the group and as the score falls.
__device__ uint64_t Order(const float* box, float score, int32_t group) {
  bool candidate = group >= 0 && !isnan(score);
  for (int k = 0; k < 4; ++k) candidate = candidate && isfinite(box[k]);
  if (!candidate) return kNone;
  if (score == 0.0f) score = 0.0f;  // the two zeros are equal
  uint32_t bits;
  memcpy(&bits, &score, sizeof(bits));
  const uint32_t rising = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(group) << 32 | static_cast<uint32_t>(~rising);
}

__global__ void OrderKernel(const float* boxes, const float* scores, const int32_t* group_ids,
                            int64_t n, int64_t padded, Workspace workspace, bool* keep) {
  const int64_t i = ThreadNumber(kThreads);
  if (i >= padded) return;
  workspace.order[i] = i < n ? Order(boxes + 4 * i, scores[i], group_ids[i]) : kNone;
  workspace.index[i] = static_cast<int32_t>(i);
  if (i < n) keep[i] = false;
}

// Sorts the pair in the direction that the bitonic network gives to sequences of this length.
__device__ void SortPair(uint64_t* orders, int32_t* indices, int64_t low, int64_t high,
                         bool rising) {
  const uint64_t order = orders[low], other_order = orders[high];
  const int32_t index = indices[low], other_index = indices[high];
  const bool is_before = order < other_order || (order == other_order && index < other_index);
  if (is_before == rising) return;
  orders[low] = other_order;
  orders[high] = order;
  indices[low] = other_index;
  indices[high] = index;
}

// One step between elements that are further apart than a block holds.
__global__ void SortStepKernel(int64_t length, int64_t step, uint64_t* orders, int32_t* indices) {
  const int64_t i = ThreadNumber(kThreads);
  const int64_t low = 2 * i - (i & (step - 1));
  SortPair(orders, indices, low, low + step, (low & length) == 0);
}

// All steps within blocks, for sequences of the first to the last length.
__global__ void SortBlocksKernel(int64_t first_length, int64_t last_length, uint64_t* orders,
                                 int32_t* indices) {
  __shared__ uint64_t block_orders[kSorted];
  __shared__ int32_t block_indices[kSorted];
  const int64_t start = static_cast<int64_t>(blockIdx.x) * kSorted;
  const int thread = threadIdx.x;
  for (int i = thread; i < kSorted; i += kThreads) {
    block_orders[i] = orders[start + i];
    block_indices[i] = indices[start + i];
  }
  for (int64_t length = first_length; length <= last_length; length *= 2) {
    for (int step = static_cast<int>(min(length, int64_t{kSorted}) / 2); step > 0; step /= 2) {
      __syncthreads();
      const int low = 2 * thread - (thread & (step - 1));
      SortPair(block_orders, block_indices, low, low + step, ((start + low) & length) == 0);
    }
  }
  __syncthreads();
  for (int i = thread; i < kSorted; i += kThreads) {
    orders[start + i] = block_orders[i];
    indices[start + i] = block_indices[i];
  }
}

__global__ void GatherKernel(const float* boxes, int64_t n, Workspace workspace) {
  const int64_t i = ThreadNumber(kThreads);
  if (i >= n) return;
  const float* box = boxes + 4 * static_cast<int64_t>(workspace.index[i]);
  workspace.sorted[i] = {box[0], box[1], box[2], box[3]};
  workspace.suppressed[i] = false;
}

// The IoU is a float32 quotient without a guard: 0 / 0 is not greater than anything.
__device__ bool Overlap(const Box& better, const Box& box, float threshold) {
  const float left = box.x1 > better.x1 ? box.x1 : better.x1;
  const float top = box.y1 > better.y1 ? box.y1 : better.y1;
  const float right = box.x2 < better.x2 ? box.x2 : better.x2;
  const float bottom = box.y2 < better.y2 ? box.y2 : better.y2;
  const float width = right - left, height = bottom - top;
  const float intersection = (width > 0.0f ? width : 0.0f) * (height > 0.0f ? height : 0.0f);
  const float own = (better.x2 - better.x1) * (better.y2 - better.y1);
  const float area = (box.x2 - box.x1) * (box.y2 - box.y1);
  return intersection / (own + area - intersection) > threshold;
}

__device__ bool BeginsGroup(const uint64_t* orders, int64_t i) {
  return orders[i] != kNone && (i == 0 || orders[i - 1] >> 32 != orders[i] >> 32);
}

// The first after `begin` that is of another group.
__device__ int64_t GroupEnd(const uint64_t* orders, int64_t begin, int64_t n) {
  int64_t inside = begin, outside = n;
  while (outside - inside > 1) {
    const int64_t middle = inside + (outside - inside) / 2;
    if (orders[middle] >> 32 == orders[begin] >> 32)
      inside = middle;
    else
      outside = middle;
  }
  return outside;
}

// Each block has the groups that begin among `share` boxes.
__global__ void SuppressKernel(int64_t n, int64_t share, float threshold, Workspace workspace,
                               bool* keep) {
  __shared__ Box chunk[kChunk];
  __shared__ bool gone[kChunk];
  __shared__ uint16_t overlaps[kChunk][kParts];
  __shared__ uint64_t kept;
  const int thread = threadIdx.x;
  const int64_t first_begin = blockIdx.x * share;
  for (int64_t begin = first_begin; begin < min(first_begin + share, n); ++begin) {
    if (!BeginsGroup(workspace.order, begin)) continue;  // all threads of the block
    const int64_t end = GroupEnd(workspace.order, begin, n);
    for (int64_t first = begin; first < end; first += kChunk) {
      const int count = static_cast<int>(min(int64_t{kChunk}, end - first));
      if (thread < count) {
        chunk[thread] = workspace.sorted[first + thread];
        gone[thread] = workspace.suppressed[first + thread];
      }
      __syncthreads();
      const int row = thread / kParts, part = thread % kParts;
      unsigned bits = 0;
      for (int i = 0; row < count && i < kPart; ++i) {
        const int column = part * kPart + i;
        if (column > row && column < count && Overlap(chunk[row], chunk[column], threshold))
          bits |= 1u << i;
      }
      overlaps[row][part] = static_cast<uint16_t>(bits);
      __syncthreads();
      if (thread == 0) {
        uint64_t removed = 0;
        kept = 0;
        for (int i = 0; i < count; ++i) {
          if (gone[i] || removed >> i & 1) continue;
          kept |= uint64_t{1} << i;
          for (int p = 0; p < kParts; ++p) removed |= uint64_t{overlaps[i][p]} << (p * kPart);
        }
      }
      __syncthreads();
      if (thread < count) keep[workspace.index[first + thread]] = kept >> thread & 1;
      for (int64_t i = first + kChunk + thread; i < end; i += kThreads) {
        if (workspace.suppressed[i]) continue;
        const Box box = workspace.sorted[i];
        for (uint64_t rest = kept; rest != 0; rest &= rest - 1) {
          if (!Overlap(chunk[__ffsll(static_cast<long long>(rest)) - 1], box, threshold)) continue;
          workspace.suppressed[i] = true;
          break;
        }
      }
      __syncthreads();  // before the block's memory is written again
    }
  }
}

}  // namespace

int64_t NmsWorkspace(int64_t n) {
  return n * (sizeof(Box) + sizeof(bool)) + Padded(n) * (sizeof(uint64_t) + sizeof(int32_t));
}

const char* LaunchNms(const float* boxes, const float* scores, const int32_t* group_ids, int64_t n,
                      double iou_threshold, void* memory, bool* keep, GpuStream stream) {
  if (n == 0) return nullptr;
  const Workspace workspace = Divide(memory, n);
  const int64_t padded = Padded(n);
  TFDETECT_LAUNCH(OrderKernel, Blocks(padded, kThreads), dim3(kThreads), stream, boxes, scores,
                  group_ids, n, padded, workspace, keep);
  TFDETECT_LAUNCH(SortBlocksKernel, Blocks(padded, kSorted), dim3(kThreads), stream, int64_t{2},
                  int64_t{kSorted}, workspace.order, workspace.index);
  for (int64_t length = 2 * kSorted; length <= padded; length *= 2) {
    for (int64_t step = length / 2; step >= kSorted; step /= 2) {
      TFDETECT_LAUNCH(SortStepKernel, Blocks(padded / 2, kThreads), dim3(kThreads), stream, length,
                      step, workspace.order, workspace.index);
    }
    TFDETECT_LAUNCH(SortBlocksKernel, Blocks(padded, kSorted), dim3(kThreads), stream, length,
                    length, workspace.order, workspace.index);
  }
  TFDETECT_LAUNCH(GatherKernel, Blocks(n, kThreads), dim3(kThreads), stream, boxes, n, workspace);
  const int64_t share = (n + kMaxBlocks - 1) / kMaxBlocks;
  TFDETECT_LAUNCH(SuppressKernel, Blocks(n, share), dim3(kThreads), stream, n, share,
                  NmsThreshold(iou_threshold), workspace, keep);
  return LaunchError();
}

}  // namespace tfdetect
