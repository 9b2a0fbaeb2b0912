// The only place that launches kernels, hands out dynamic shared memory, or names the CUDA
// runtime's errors. Kernel sources otherwise keep to plain C++ and the device functions of CUDA, so
// that they also compile for, and run on, a stand-in for the device.
#pragma once

#include <cuda_runtime.h>

#include "detcore/core.h"

// Compute capability that device code is compiled for, times ten. A fast path that is newer than
// sm_75 stands behind `#if DETCORE_SM >= ...`, so that the stand-in can run both sides of it.
#if defined(__CUDA_ARCH__)
#define DETCORE_SM (__CUDA_ARCH__ / 10)
#elif !defined(DETCORE_SM)
#define DETCORE_SM 75
#endif

namespace detcore {

struct LaunchShape {
  int64_t blocks;
  int threads;
  size_t shared_bytes = 0;
};

constexpr size_t kSharedByDefault = 48 << 10;  // bytes of a block; more must be asked for
constexpr int64_t kMostBlocks = 0x7fffffff;    // along x; kernels stride over what is beyond

inline int64_t blocks_for(int64_t count, int64_t per_block) {
  int64_t blocks = (count + per_block - 1) / per_block;
  return blocks < kMostBlocks ? blocks : kMostBlocks;
}

#if CUDART_VERSION >= 13000
#define DETCORE_DRIVER_NEEDED "CUDA 13, which needs a driver of 580 or newer"
#else
#define DETCORE_DRIVER_NEEDED "CUDA 12, which needs a driver of 525 or newer"
#endif

// The runtime's own words, but for the two errors that come of the build and not of the call: these
// say what to do.
inline Status to_status(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return {};
    case cudaErrorInsufficientDriver:
      return {
          "this build of detcore is for " DETCORE_DRIVER_NEEDED
          ", and the NVIDIA driver here is older: update it, or build from source with the CUDA "
          "compiler that fits it: CUDACXX=/path/to/nvcc pip install --no-build-isolation "
          "--no-binary detcore detcore"};
    case cudaErrorNoKernelImageForDevice:
      return {
          "this build of detcore has no code for this GPU: build from source, with "
          "TORCH_CUDA_ARCH_LIST set to its compute capability: "
          "pip install --no-build-isolation --no-binary detcore detcore"};
    default: return {cudaGetErrorString(error)};
  }
}

// Puts kernel(args...) on the stream; the error is the launch's own.
template <class... Params>
Status launch(void (*kernel)(Params...), LaunchShape shape, Stream stream, Params... args) {
  if (shape.blocks <= 0) return {};
  void* pointers[] = {static_cast<void*>(&args)...};
#if defined(DETCORE_SIMT)
  const auto entry = kernel;  // the stand-in calls it with arguments of its types
#else
  // CUDA 12's headers take an address from compilers other than nvcc
  const auto entry = reinterpret_cast<const void*>(kernel);
#endif
  if (shape.shared_bytes > kSharedByDefault) {
    const cudaError_t error = cudaFuncSetAttribute(
        entry, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shape.shared_bytes));
    if (error != cudaSuccess) return to_status(error);
  }
  return to_status(cudaLaunchKernel(entry, dim3(unsigned(shape.blocks)), dim3(shape.threads),
                                    pointers, shape.shared_bytes,
                                    static_cast<cudaStream_t>(stream)));
}

inline Status clear(void* from, size_t bytes, Stream stream) {
  return to_status(cudaMemsetAsync(from, 0, bytes, static_cast<cudaStream_t>(stream)));
}

// Dynamic shared memory of the calling block, as elements of T.
template <class T>
__device__ inline T* dynamic_shared() {
#if defined(DETCORE_SIMT)
  return static_cast<T*>(simt::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char detcore_dynamic_shared[];
  return reinterpret_cast<T*>(detcore_dynamic_shared);
#endif
}

// Memory that other threads of the same launch write and read meanwhile: not cached, not moved.
template <class T>
__device__ inline T peek(const T* from) {
  return *static_cast<const volatile T*>(from);
}
template <class T>
__device__ inline void publish(T* to, T value) {
  *static_cast<volatile T*>(to) = value;
}

// The calling thread's place among all threads of a one-dimensional grid, and their number.
__device__ inline int64_t global_thread() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t all_threads() { return int64_t(gridDim.x) * blockDim.x; }

}  // namespace detcore
