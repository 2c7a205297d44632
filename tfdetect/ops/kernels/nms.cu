// Non-maximum suppression on the GPU.
//
// The boxes are sorted by group, descending score and index (a bitonic network: the same order
// every time), and go through in segments of a few thousand. Within a segment, a table of bits says
// which pairs of one group overlap; one block sweeps it, 64 boxes at a time, for those that are
// kept. Then the kept ones suppress what follows the segment in its last group. Memory grows with
// the boxes, not with their pairs.
#include "box_iou_rotated.h"
#include "gpu_kernels.h"
#include "nms.h"
#include "nms_gpu.h"

namespace tfdetect {
namespace {

constexpr int kThreads = 256;
constexpr int kSorted = 2 * kThreads;  // elements that a block sorts in its own memory
constexpr int kChunk = 64;             // boxes that settle at a time: bits of a word of the table
#ifdef TFDETECT_EMULATE_GPU
constexpr int kWords = 2;  // so that small tests have several segments
#else
constexpr int kWords = 32;
#endif
constexpr int kSegment = kWords * kChunk;
// The block that sweeps has a thread per box of the chunk and per few words.
constexpr int kSweepParts = kWords < 16 ? kWords : 16;
constexpr int kEach = kWords / kSweepParts;
constexpr uint64_t kNone = ~uint64_t{};  // sorts last what is not a candidate

struct alignas(16) PlainBox {
  float x1, y1, x2, y2;
};

// Of the two kinds of boxes: their numbers, and what is kept of them while they are compared.
__device__ void Read(const float* box, PlainBox* to) { *to = {box[0], box[1], box[2], box[3]}; }
__device__ void Read(const float* box, RotatedShape* to) { *to = MakeRotatedShape(box); }
template <typename Box>
constexpr int kNumbers = 4;
template <>
constexpr int kNumbers<RotatedShape> = 5;

template <typename Box>
struct Workspace {
  Box* sorted;      // [n]
  uint64_t* order;  // [padded]: group, then descending score
  int32_t* index;   // [padded]: of the input; decides where the order is equal
  bool* suppressed; // [n], as sorted
  // Of the segment: for word w and box i, which of boxes [64 w, 64 w + 64) it overlaps.
  unsigned long long* overlaps;  // [kWords, kSegment]
  Box* kept;                     // [kSegment] those of the last group, in any order
  unsigned* kept_count;
};

int64_t Padded(int64_t n) {
  int64_t padded = kSorted;
  while (padded < n) padded *= 2;
  return padded;
}

template <typename Box>
Workspace<Box> Divide(void* memory, int64_t n) {
  Workspace<Box> workspace;
  workspace.sorted = static_cast<Box*>(memory);
  workspace.kept = workspace.sorted + n;
  workspace.overlaps = reinterpret_cast<unsigned long long*>(workspace.kept + kSegment);
  workspace.order = reinterpret_cast<uint64_t*>(workspace.overlaps + kWords * kSegment);
  workspace.index = reinterpret_cast<int32_t*>(workspace.order + Padded(n));
  workspace.kept_count = reinterpret_cast<unsigned*>(workspace.index + Padded(n));
  workspace.suppressed = reinterpret_cast<bool*>(workspace.kept_count + 1);
  return workspace;
}

// A number that grows with the group and as the score falls.
__device__ uint64_t Order(const float* box, int numbers, float score, int32_t group) {
  bool candidate = group >= 0 && !isnan(score);
  for (int k = 0; k < numbers; ++k) candidate = candidate && isfinite(box[k]);
  if (!candidate) return kNone;
  if (score == 0.0f) score = 0.0f;  // the two zeros are equal
  uint32_t bits;
  memcpy(&bits, &score, sizeof(bits));
  const uint32_t rising = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(group) << 32 | static_cast<uint32_t>(~rising);
}

template <typename Box>
__global__ void OrderKernel(const float* boxes, const float* scores, const int32_t* group_ids,
                            int64_t n, int64_t padded, Workspace<Box> workspace, bool* keep) {
  constexpr int numbers = kNumbers<Box>;
  const int64_t i = ThreadNumber(kThreads);
  if (i >= padded) return;
  workspace.order[i] = i < n ? Order(boxes + numbers * i, numbers, scores[i], group_ids[i]) : kNone;
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

template <typename Box>
__global__ void GatherKernel(const float* boxes, int64_t n, Workspace<Box> workspace) {
  const int64_t i = ThreadNumber(kThreads);
  if (i >= n) return;
  Read(boxes + kNumbers<Box> * static_cast<int64_t>(workspace.index[i]), &workspace.sorted[i]);
  workspace.suppressed[i] = workspace.order[i] == kNone;
}

// The IoU is a float32 quotient without a guard: 0 / 0 is not greater than anything.
__device__ bool Overlap(const PlainBox& better, const PlainBox& box, float threshold) {
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

__device__ bool Overlap(const RotatedShape& better, const RotatedShape& box, float threshold) {
  return RotatedIou(better, box) > threshold;
}

// Grid: x over the words of the table, y over chunks of boxes; a thread per box. Only pairs of a
// box and a later one of its group count.
template <typename Box>
__global__ void OverlapKernel(int64_t start, int64_t n, float threshold,
                              Workspace<Box> workspace) {
  __shared__ Box others[kChunk];
  __shared__ uint64_t groups[kChunk];
  const int word = blockIdx.x, chunk = blockIdx.y, thread = threadIdx.x;
  if (word < chunk) return;  // the whole block
  const int64_t other = start + word * kChunk + thread;
  if (other < n) others[thread] = workspace.sorted[other];
  groups[thread] = other < n ? workspace.order[other] >> 32 : kNone;
  __syncthreads();
  const int row = chunk * kChunk + thread;
  unsigned long long bits = 0;
  if (start + row < n) {
    const Box box = workspace.sorted[start + row];
    const uint64_t group = workspace.order[start + row] >> 32;
    for (int i = word == chunk ? thread + 1 : 0; i < kChunk; ++i) {
      if (groups[i] == group && Overlap(box, others[i], threshold)) bits |= 1ull << i;
    }
  }
  workspace.overlaps[static_cast<int64_t>(word) * kSegment + row] = bits;
}

// One block: which boxes of the segment are kept.
template <typename Box>
__global__ void SweepKernel(int64_t start, int64_t n, Workspace<Box> workspace, bool* keep) {
  __shared__ unsigned long long removed[kWords], kept[kWords], within[kChunk];
  __shared__ unsigned kept_count;
  const int thread = threadIdx.x;
  const int row = thread % kChunk, part = thread / kChunk;
  const int count = static_cast<int>(min(int64_t{kSegment}, n - start));
  if (thread == 0) kept_count = 0;
  if (thread < kWords) {
    unsigned long long gone = 0;
    for (int i = 0; i < kChunk; ++i) {
      const int box = thread * kChunk + i;
      if (box >= count || workspace.suppressed[start + box]) gone |= 1ull << i;
    }
    removed[thread] = gone;
    kept[thread] = 0;
  }
  const int chunks = (count + kChunk - 1) / kChunk;
  unsigned long long next[kEach];
  for (int k = 0; k < kEach; ++k) {
    const int word = part + k * kSweepParts;
    next[k] = word < chunks ? workspace.overlaps[word * int64_t{kSegment} + row] : 0;
  }
  for (int chunk = 0; chunk < chunks; ++chunk) {
    unsigned long long words[kEach];
    for (int k = 0; k < kEach; ++k) {
      const int word = part + k * kSweepParts;
      words[k] = next[k];
      if (word == chunk) within[row] = words[k];
      // The next chunk's are read while one thread settles this one. The table has no words before
      // a box's own.
      if (word > chunk && word < chunks)
        next[k] = workspace.overlaps[word * int64_t{kSegment} + (chunk + 1) * kChunk + row];
    }
    __syncthreads();
    if (thread == 0) {
      unsigned long long gone = removed[chunk], stay = 0;
      for (int i = 0; i < kChunk; ++i) {
        if (gone >> i & 1) continue;
        stay |= 1ull << i;
        gone |= within[i];
      }
      kept[chunk] = stay;
    }
    __syncthreads();
    const bool stays = kept[chunk] >> row & 1;
    for (int k = 0; k < kEach; ++k) {
      const int word = part + k * kSweepParts;
      if (word <= chunk) continue;  // the whole warp
      unsigned long long bits = stays ? words[k] : 0;
      for (int step = kWarp / 2; step > 0; step /= 2)
        bits |= __shfl_xor_sync(kAllLanes, bits, step);
      if (thread % kWarp == 0 && bits != 0) atomicOr(&removed[word], bits);
    }
  }
  __syncthreads();
  const uint64_t last_group = workspace.order[start + count - 1] >> 32;
  for (int i = thread; i < count; i += kChunk * kSweepParts) {
    if (!(kept[i / kChunk] >> i % kChunk & 1)) continue;
    keep[workspace.index[start + i]] = true;
    if (workspace.order[start + i] >> 32 == last_group)
      workspace.kept[atomicAdd(&kept_count, 1u)] = workspace.sorted[start + i];
  }
  __syncthreads();
  if (thread == 0) *workspace.kept_count = kept_count;
}

// Grid: x over the boxes after the segment, which ended before `end`, y over chunks of those that
// it kept.
template <typename Box>
__global__ void SuppressKernel(int64_t end, int64_t n, float threshold,
                               Workspace<Box> workspace) {
  __shared__ Box kept[kChunk];
  const int first = static_cast<int>(blockIdx.y) * kChunk, thread = threadIdx.x;
  const int count = min(static_cast<int>(*workspace.kept_count) - first, kChunk);
  const uint64_t group = workspace.order[end - 1] >> 32;
  const int64_t begin = end + static_cast<int64_t>(blockIdx.x) * kThreads;
  if (count <= 0 || workspace.order[begin] >> 32 != group) return;  // the whole block
  if (thread < count) kept[thread] = workspace.kept[first + thread];
  __syncthreads();
  const int64_t i = begin + thread;
  if (i >= n || workspace.suppressed[i] || workspace.order[i] >> 32 != group) return;
  const Box box = workspace.sorted[i];
  for (int k = 0; k < count; ++k) {
    if (!Overlap(kept[k], box, threshold)) continue;
    workspace.suppressed[i] = true;
    return;
  }
}

template <typename Box>
void LaunchTyped(const float* boxes, const float* scores, const int32_t* group_ids, int64_t n,
                 float threshold, void* memory, bool* keep, GpuStream stream) {
  const Workspace<Box> workspace = Divide<Box>(memory, n);
  const int64_t padded = Padded(n);
  TFDETECT_LAUNCH(OrderKernel<Box>, Blocks(padded, kThreads), dim3(kThreads), stream, boxes, scores,
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
  TFDETECT_LAUNCH(GatherKernel<Box>, Blocks(n, kThreads), dim3(kThreads), stream, boxes, n,
                  workspace);
  for (int64_t start = 0; start < n; start += kSegment) {
    const int64_t end = start + kSegment;
    const auto chunks = static_cast<unsigned>((min(end, n) - start + kChunk - 1) / kChunk);
    TFDETECT_LAUNCH(OverlapKernel<Box>, dim3(chunks, chunks), dim3(kChunk), stream, start, n,
                    threshold, workspace);
    TFDETECT_LAUNCH(SweepKernel<Box>, dim3(1), dim3(kChunk * kSweepParts), stream, start, n,
                    workspace, keep);
    if (end >= n) break;
    const dim3 grid(Blocks(n - end, kThreads).x, kWords);
    TFDETECT_LAUNCH(SuppressKernel<Box>, grid, dim3(kThreads), stream, end, n, threshold,
                    workspace);
  }
}

}  // namespace

int64_t NmsWorkspace(int64_t n, int numbers) {
  const int64_t box = numbers == 5 ? sizeof(RotatedShape) : sizeof(PlainBox);
  return n * (box + sizeof(bool)) + Padded(n) * (sizeof(uint64_t) + sizeof(int32_t)) +
         kSegment * box + kWords * kSegment * sizeof(unsigned long long) + sizeof(unsigned);
}

const char* LaunchNms(const float* boxes, int numbers, const float* scores,
                      const int32_t* group_ids, int64_t n, double iou_threshold, void* workspace,
                      bool* keep, GpuStream stream) {
  if (n == 0) return nullptr;
  if (numbers == 5) {
    LaunchTyped<RotatedShape>(boxes, scores, group_ids, n, NmsRotatedThreshold(iou_threshold),
                              workspace, keep, stream);
  } else {
    LaunchTyped<PlainBox>(boxes, scores, group_ids, n, NmsThreshold(iou_threshold), workspace,
                          keep, stream);
  }
  return LaunchError();
}

}  // namespace tfdetect
