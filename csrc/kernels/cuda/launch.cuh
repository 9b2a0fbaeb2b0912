// The only file that launches kernels, provides dynamic shared memory, and translates errors of the
// CUDA runtime. The other kernel sources use plain C++ and CUDA's device functions only, so that
// they also compile for the device simulator (tests/simt).
#pragma once

#include <cuda_runtime.h>

#include "detcore/core.h"

// The compute capability that device code is compiled for, times ten. A fast path that needs more
// than sm_75 is inside `#if DETCORE_SM >= ...`, so that the simulator can run both variants.
#if defined(__CUDA_ARCH__)
#define DETCORE_SM (__CUDA_ARCH__ / 10)
#elif !defined(DETCORE_SM)
#define DETCORE_SM 75
#endif

// Before a loop whose body is large and whose count is not known: copies of it would need more
// registers than a thread has. For shared headers, which are read after this one.
#if defined(__CUDA_ARCH__)
#define DETCORE_DONT_UNROLL _Pragma("unroll 1")
#endif

namespace detcore {

struct LaunchShape {
  int64_t blocks;
  int threads;
  size_t shared_bytes = 0;
};

constexpr size_t kSharedByDefault = 48 << 10;  // bytes per block; a kernel must request more
constexpr int64_t kMostBlocks = 0x7fffffff;    // along x; kernels loop over the units beyond it

inline int64_t blocks_for(int64_t count, int64_t per_block) {
  int64_t blocks = (count + per_block - 1) / per_block;
  return blocks < kMostBlocks ? blocks : kMostBlocks;
}

#if CUDART_VERSION >= 13000
#define DETCORE_DRIVER_NEEDED "CUDA 13, which needs a driver of 580 or newer"
#else
#define DETCORE_DRIVER_NEEDED "CUDA 12, which needs a driver of 525 or newer"
#endif

// Uses the runtime's message, except for the two errors caused by the build rather than the call:
// those messages say what to do.
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

// Enqueues kernel(args...) on the stream. The status covers the launch, not the execution.
template <class... Params>
Status launch(void (*kernel)(Params...), LaunchShape shape, Stream stream, Params... args) {
  if (shape.blocks <= 0) return {};
  void* pointers[] = {static_cast<void*>(&args)...};
#if defined(DETCORE_SIMT)
  const auto entry = kernel;  // the simulator needs the types of the arguments
#else
  // for compilers other than nvcc, CUDA 12's headers accept an address only
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

// The dynamic shared memory of the calling block, as an array of T.
template <class T>
__device__ inline T* dynamic_shared() {
#if defined(DETCORE_SIMT)
  return static_cast<T*>(simt::dynamic_shared());
#else
  extern __shared__ __align__(16) unsigned char detcore_dynamic_shared[];
  return reinterpret_cast<T*>(detcore_dynamic_shared);
#endif
}

// Access to memory that other threads of the same launch use at the same time. volatile keeps the
// compiler from caching or moving the access.
template <class T>
__device__ inline T peek(const T* from) {
  return *static_cast<const volatile T*>(from);
}
template <class T>
__device__ inline void publish(T* to, T value) {
  *static_cast<volatile T*>(to) = value;
}

// The index of the calling thread in a one-dimensional grid, and the number of threads.
__device__ inline int64_t global_thread() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t all_threads() { return int64_t(gridDim.x) * blockDim.x; }

}  // namespace detcore
