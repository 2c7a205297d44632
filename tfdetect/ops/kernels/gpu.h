// What the launchers of CUDA kernels share with those who call them; includes nothing of CUDA.
//
// A launcher takes device pointers and a stream, and returns null or what CUDA says went wrong. A
// workspace is device memory, aligned to 64 bytes, that it may overwrite.
#ifndef TFDETECT_GPU_H_
#define TFDETECT_GPU_H_

struct CUstream_st;

namespace tfdetect {

typedef CUstream_st* GpuStream;  // cudaStream_t

enum class FloatType { kFloat, kHalf, kBFloat16 };

}  // namespace tfdetect

#endif  // TFDETECT_GPU_H_
