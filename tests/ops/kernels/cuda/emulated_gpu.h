// Enough of CUDA to run the project's kernels on the CPU, so that tests check them without a GPU.
//
// The threads of a block are fibers on one thread of the CPU that take turns at every
// synchronisation, in ascending order in one block and in descending order in the next, so that
// what depends on the order shows; blocks run one after another.
#ifndef TFDETECT_EMULATED_GPU_H_
#define TFDETECT_EMULATED_GPU_H_

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
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

// Small: AddressSanitizer forgets what it knows of all of it at every turn.
constexpr size_t kStack = 32 * 1024;
constexpr int kLanes = 32;

// Threads that wait for each other: a warp, or the block.
struct Meeting {
  int expected = 0, arrived = 0, generation = 0;
  uint64_t values[2][kLanes];  // of this exchange, and of the next, which some may have begun
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
inline int last_error = 0;
inline unsigned launches = 0;

inline void Yield() { swapcontext(&current->context, &scheduler); }

inline void Meet(Meeting* meeting) {
  const int generation = meeting->generation;
  if (++meeting->arrived == meeting->expected) {
    meeting->arrived = 0;
    ++meeting->generation;
  }
  while (meeting->generation == generation) Yield();
}

// The thread's part of one block after another.
inline void RunFiber() {
  for (;;) {
    body();
    current->done = true;
    Yield();
  }
}

// What a lane of the warp brought to this exchange.
template <typename Read>
auto Exchange(uint64_t value, const Read& read) {
  Meeting* warp = current->warp;
  uint64_t* values = warp->values[warp->generation % 2];
  values[current->lane] = value;
  Meet(warp);
  return read(values);
}

inline void Launch(dim3 grid, dim3 block, const std::function<void()>& kernel) {
  body = kernel;
  const int threads = static_cast<int>(block.x * block.y * block.z);
  const bool valid = grid.x * grid.y * grid.z > 0 && grid.y < 65536 && grid.z < 65536 &&
                     threads > 0 && threads <= 1024;
  if (!valid) {
    last_error = 1;
    return;
  }
  ++launches;
  std::vector<Fiber> fibers(threads);
  std::vector<Meeting> warps((threads + kLanes - 1) / kLanes);
  for (Meeting& warp : warps) warp.expected = kLanes;
  block_meeting.expected = threads;
  for (int t = 0; t < threads; ++t) {
    Fiber& fiber = fibers[t];
    fiber.thread = {t % block.x, t / block.x % block.y, t / block.x / block.y};
    fiber.lane = t % kLanes;
    fiber.warp = &warps[t / kLanes];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, RunFiber, 0);
  }
  for (unsigned i = 0; i < grid.x * grid.y * grid.z; ++i) {
    block_index = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    for (Fiber& fiber : fibers) fiber.done = false;
    for (bool running = true; running;) {
      running = false;
      for (int t = 0; t < threads; ++t) {
        Fiber& fiber = fibers[(i + launches) % 2 ? threads - 1 - t : t];
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

inline unsigned long long __shfl_xor_sync(unsigned, unsigned long long value, int mask) {
  const int lane = emulated::current->lane ^ mask;
  return emulated::Exchange(value, [lane](const uint64_t* values) { return values[lane]; });
}

inline unsigned __ballot_sync(unsigned, bool vote) {
  return emulated::Exchange(vote, [](const uint64_t* values) {
    unsigned ballot = 0;
    for (int i = 0; i < emulated::kLanes; ++i) ballot |= static_cast<unsigned>(values[i]) << i;
    return ballot;
  });
}

// Fibers take turns only where they wait, so that these need nothing else.
template <typename T>
T atomicAdd(T* to, T value) {
  const T before = *to;
  *to += value;
  return before;
}
inline unsigned long long atomicOr(unsigned long long* to, unsigned long long value) {
  const unsigned long long before = *to;
  *to |= value;
  return before;
}
inline unsigned atomicMax(unsigned* to, unsigned value) {
  const unsigned before = *to;
  *to = std::max(before, value);
  return before;
}

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }
using std::isfinite;
using std::isnan;
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
inline cudaError_t cudaGetLastError() { return std::exchange(emulated::last_error, cudaSuccess); }
inline const char* cudaGetErrorString(cudaError_t) { return "invalid configuration argument"; }
enum cudaMemcpyKind { cudaMemcpyDeviceToDevice, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
template <typename T>
cudaError_t cudaMalloc(T** memory, size_t bytes) {
  *memory = static_cast<T*>(std::malloc(bytes));
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}
template <typename Stream>
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, Stream) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}
template <typename Stream>
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, Stream) {
  std::memset(to, value, bytes);
  return cudaSuccess;
}

#endif  // TFDETECT_EMULATED_GPU_H_
