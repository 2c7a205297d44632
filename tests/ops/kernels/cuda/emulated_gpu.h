// Enough of CUDA to run the project's kernels on the CPU, so that tests check them without a GPU.
//
// The threads of a block are fibers on one thread of the CPU that take turns at every
// synchronisation; blocks run one after another.
#ifndef TFDETECT_EMULATED_GPU_H_
#define TFDETECT_EMULATED_GPU_H_

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "half.h"

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define TFDETECT_LAUNCH(kernel, grid, block, stream, ...) \
  ((void)stream, emulated::Launch(grid, block, [=] { kernel(__VA_ARGS__); }))

struct dim3 {
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

namespace emulated {

constexpr size_t kStack = 256 * 1024;
constexpr int kLanes = 32;

// Threads that wait for each other: a warp, or the block.
struct Meeting {
  int expected = 0, arrived = 0, generation = 0;
  uint64_t values[kLanes];
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  dim3 thread;
  int lane = 0;
  Meeting* warp = nullptr;
  bool done = false;
};

inline ucontext_t scheduler;
inline Fiber* current;
inline dim3 block_index;
inline Meeting block_meeting;
inline std::function<void()> body;

inline void Yield() { swapcontext(&current->context, &scheduler); }

inline void Meet(Meeting* meeting) {
  const int generation = meeting->generation;
  if (++meeting->arrived == meeting->expected) {
    meeting->arrived = 0;
    ++meeting->generation;
  }
  while (meeting->generation == generation) Yield();
}

inline void RunFiber() {
  body();
  current->done = true;
  Yield();
}

// What a lane of the warp brought to this exchange.
template <typename Read>
auto Exchange(uint64_t value, const Read& read) {
  Meeting* warp = current->warp;
  warp->values[current->lane] = value;
  Meet(warp);
  const auto result = read(warp->values);
  Meet(warp);
  return result;
}

inline void Launch(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  body = kernel;
  const int threads = static_cast<int>(block.x * block.y * block.z);
  std::vector<Fiber> fibers(threads);
  for (unsigned i = 0; i < grid.x * grid.y * grid.z; ++i) {
    block_index = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    std::vector<Meeting> warps((threads + kLanes - 1) / kLanes);
    for (Meeting& warp : warps) warp.expected = kLanes;
    block_meeting = Meeting();
    block_meeting.expected = threads;
    for (int t = 0; t < threads; ++t) {
      Fiber& fiber = fibers[t];
      fiber.thread = {t % block.x, t / block.x % block.y, t / block.x / block.y};
      fiber.lane = t % kLanes;
      fiber.warp = &warps[t / kLanes];
      fiber.done = false;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStack;
      fiber.context.uc_link = nullptr;
      makecontext(&fiber.context, RunFiber, 0);
    }
    for (bool running = true; running;) {
      running = false;
      for (Fiber& fiber : fibers) {
        if (fiber.done) continue;
        running = true;
        current = &fiber;
        swapcontext(&scheduler, &fiber.context);
      }
    }
  }
}

}  // namespace emulated

#define threadIdx (emulated::current->thread)
#define blockIdx (emulated::block_index)

inline void __syncthreads() { emulated::Meet(&emulated::block_meeting); }

inline float __shfl_sync(unsigned, float value, int lane) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = emulated::Exchange(
      bits, [lane](const uint64_t* values) { return static_cast<uint32_t>(values[lane]); });
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline unsigned __ballot_sync(unsigned, bool vote) {
  return emulated::Exchange(vote, [](const uint64_t* values) {
    unsigned ballot = 0;
    for (int i = 0; i < emulated::kLanes; ++i) ballot |= static_cast<unsigned>(values[i]) << i;
    return ballot;
  });
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
using std::isfinite;
using std::max;
using std::min;

typedef tfdetect::Half __half;
typedef tfdetect::BFloat16 __nv_bfloat16;
inline float __half2float(__half value) { return tfdetect::ToFloat(value); }
inline float __bfloat162float(__nv_bfloat16 value) { return tfdetect::ToFloat(value); }
inline __half __float2half_rn(float value) {
  __half result;
  tfdetect::FromFloat(value, &result);
  return result;
}
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  __nv_bfloat16 result;
  tfdetect::FromFloat(value, &result);
  return result;
}

typedef int cudaError_t;
constexpr cudaError_t cudaSuccess = 0;
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return ""; }

#endif  // TFDETECT_EMULATED_GPU_H_
