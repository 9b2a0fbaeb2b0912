// Stands in for the CUDA runtime, so that a .cu file compiles with the host compiler and its
// kernels run on the CPU: a thread of a block is a fiber, a block runs to its end, blocks follow
// each other. Only what kernels/cuda/ uses is here; vector and half types are CUDA's own headers.
#pragma once

#include <driver_types.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __launch_bounds__
#undef __forceinline__
#define __global__
#define __device__
#define __host__
// a block runs on one OS thread, alone there: its shared memory can be that thread's
#define __shared__ static thread_local
#define __constant__ static
#define __launch_bounds__(...)
#define __forceinline__ inline __attribute__((always_inline))

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

// --- barriers ----------------------------------------------------------------------------------

inline void __syncthreads() { simt::block_barrier(0); }
inline int __syncthreads_count(int x) { return simt::block_barrier(x != 0); }
inline int __syncthreads_or(int x) { return simt::block_barrier(x != 0) != 0; }
inline int __syncthreads_and(int x) { return simt::block_barrier(x == 0) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) { simt::exchange(mask, uint64_t(0)); }

// --- warps -------------------------------------------------------------------------------------

inline unsigned __ballot_sync(unsigned mask, int x) {
  const simt::Lanes& lanes = simt::exchange(mask, uint64_t(x != 0));
  unsigned votes = 0;
  for (int l = 0; l < 32; ++l)
    if (mask >> l & 1 && lanes.value[l]) votes |= 1u << l;
  return votes;
}
inline int __any_sync(unsigned mask, int x) { return __ballot_sync(mask, x) != 0; }
inline int __all_sync(unsigned mask, int x) { return __ballot_sync(mask, !x) == 0; }
inline unsigned __activemask() { return simt::live_lanes(); }

template <class T>
T simt_read(unsigned mask, T x, int from, bool inside) {
  static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &x, sizeof(T));
  bits = simt::exchange(mask, bits).value[from & 31];
  if (inside) memcpy(&x, &bits, sizeof(T));
  return x;
}
template <class T>
T __shfl_sync(unsigned mask, T x, int from, int width = 32) {
  const int lane = simt::lane();
  return simt_read(mask, x, (lane & ~(width - 1)) + (from & (width - 1)), true);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int flip, int width = 32) {
  const int lane = simt::lane(), from = lane ^ flip;
  return simt_read(mask, x, from, from < (lane & ~(width - 1)) + width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T x, unsigned step, int width = 32) {
  const int lane = simt::lane(), from = lane + int(step);
  return simt_read(mask, x, from, from < (lane & ~(width - 1)) + width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, unsigned step, int width = 32) {
  const int lane = simt::lane(), from = lane - int(step);
  return simt_read(mask, x, from, from >= (lane & ~(width - 1)));
}

// --- bits, atomics, loads ----------------------------------------------------------------------

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)(x)) : 64; }

// fibers of one OS thread interleave at barriers alone, so plain code is atomic
template <class T>
T atomicAdd(T* p, T x) {
  return std::exchange(*p, *p + x);
}
template <class T>
T atomicMax(T* p, T x) {
  return std::exchange(*p, *p > x ? *p : x);
}
template <class T>
T atomicMin(T* p, T x) {
  return std::exchange(*p, *p < x ? *p : x);
}
template <class T>
T atomicOr(T* p, T x) {
  return std::exchange(*p, *p | x);
}
template <class T>
T atomicAnd(T* p, T x) {
  return std::exchange(*p, *p & x);
}
template <class T>
T atomicExch(T* p, T x) {
  return std::exchange(*p, x);
}
template <class T>
T atomicCAS(T* p, T was, T x) {
  return std::exchange(*p, *p == was ? x : *p);
}

template <class T>
T __ldg(const T* p) {
  return *p;
}

// --- the runtime -------------------------------------------------------------------------------

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : simt::last_error();
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                                   cudaStream_t) {
  memcpy(to, from, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  memset(to, value, bytes);
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

template <class... P, size_t... I>
void simt_call(void (*kernel)(P...), void** args, std::index_sequence<I...>) {
  kernel(*static_cast<P*>(args[I])...);
}

template <class... P>
cudaError_t cudaLaunchKernel(void (*kernel)(P...), dim3 grid, dim3 block, void** args,
                             size_t shared_bytes, cudaStream_t) {
  struct Call {
    void (*kernel)(P...);
    void** args;
  } call{kernel, args};
  auto body = [](void* c) {
    simt_call(static_cast<Call*>(c)->kernel, static_cast<Call*>(c)->args,
              std::index_sequence_for<P...>{});
  };
  const bool fine =
      simt::run({grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes, body, &call);
  return fine ? cudaSuccess : cudaErrorLaunchFailure;
}
