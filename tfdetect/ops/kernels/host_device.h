// Functions that the CPU's and the GPU's files compute alike, step by step.
#ifndef TFDETECT_HOST_DEVICE_H_
#define TFDETECT_HOST_DEVICE_H_

#ifdef __CUDACC__
#define TFDETECT_HOST_DEVICE __host__ __device__ inline
#else
#define TFDETECT_HOST_DEVICE inline
#endif

#endif  // TFDETECT_HOST_DEVICE_H_
