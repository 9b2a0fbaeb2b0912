// Replaces the CUDA runtime, so that a .cu file compiles with the host compiler and its kernels run
// on the CPU. Each thread of a block is a fiber, and blocks run one after the other. This header
// contains only the functions that kernels use; vector and half types come from CUDA's own headers.
//
// Kernels are compiled with -fsanitize=thread, whose hooks (hooks.cpp) see every memory access.
// SIMT_UNSEEN hides the accesses of the simulator's own code.
#pragma once

#include <driver_types.h>
#include <vector_functions.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#define __global__
// g++ does not call the hooks for a store of a call's result, so all device functions are inlined
#define __device__ __attribute__((always_inline))
#define __host__
// a block has an OS thread to itself, so its shared memory can be thread-local
#define __shared__ static thread_local
#define __constant__ static
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define SIMT_UNSEEN __attribute__((noinline, no_sanitize("thread")))

#include <cstdint>
#include <cstring>
#include <utility>

#include "simt.h"

#define CUDART_VERSION 13000
#define threadIdx (::simt::thread_index())
#define blockIdx (::simt::block_index())
#define blockDim (::simt::block_size())
#define gridDim (::simt::grid_size())
#define warpSize 32

#include "simt_atomics.h"
#include "simt_math.h"
#include "simt_warp.h"

// --- the runtime -------------------------------------------------------------------------------

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : simt::last_error();
}
inline cudaError_t simt_error(bool fine) { return fine ? cudaSuccess : cudaErrorLaunchFailure; }

inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }

template <class T>
cudaError_t cudaMalloc(T** out, size_t bytes) {
  *out = static_cast<T*>(simt::allocate(bytes));
  return *out ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFree(void* p) { return simt_error(!p || simt::release(p)); }
inline cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return simt_error(simt::copy(to, from, bytes,
                               kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice,
                               kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice));
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
inline cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return simt_error(simt::fill(to, value, bytes));
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(to, value, bytes);
}
inline cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = nullptr;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }

template <class... P>
cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorInvalidValue;
  return simt_error(simt::grant_shared(reinterpret_cast<const void*>(kernel), size_t(value)));
}

// --- launches ----------------------------------------------------------------------------------

template <class... P>
struct SimtCall {
  void (*kernel)(P...);
  void** args;

  template <size_t... I>
  SIMT_UNSEEN void with_args(std::index_sequence<I...>) const {
    kernel(*static_cast<P*>(args[I])...);
  }
  SIMT_UNSEEN static void body(void* call) {
    static_cast<SimtCall*>(call)->with_args(std::index_sequence_for<P...>{});
  }
};

template <class... P>
cudaError_t cudaLaunchKernel(void (*kernel)(P...), dim3 grid, dim3 block, void** args,
                             size_t shared_bytes, cudaStream_t) {
  SimtCall<P...> call{kernel, args};
  return simt_error(simt::run(reinterpret_cast<const void*>(kernel), {grid.x, grid.y, grid.z},
                              {block.x, block.y, block.z}, shared_bytes, &SimtCall<P...>::body,
                              &call));
}
