// The only place that launches kernels, hands out dynamic shared memory, or names the CUDA
// runtime's errors. Kernel sources otherwise keep to plain C++ and the device functions of CUDA, so
// that they also compile for, and run on, a stand-in for the device.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "detcore/core.h"
#include "detcore/dispatch.h"

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

constexpr int64_t kMostBlocks = 0x7fffffff;  // along x; kernels stride over what is beyond

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
  return to_status(cudaLaunchKernel(kernel, dim3(unsigned(shape.blocks)), dim3(shape.threads),
                                    pointers, shape.shared_bytes,
                                    static_cast<cudaStream_t>(stream)));
}

inline bool aligned_to_16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

inline Status clear(void* from, size_t bytes, Stream stream) {
  return to_status(cudaMemsetAsync(from, 0, bytes, static_cast<cudaStream_t>(stream)));
}

// f(S{}) with S the device's storage type of `dtype`.
template <class F>
Status with_storage(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::f64: return f(double{});
    case DType::f16: return f(__half{});
    case DType::bf16: return f(__nv_bfloat16{});
  }
  return {"unknown dtype"};
}

DETCORE_HD float widen(float x) { return x; }
DETCORE_HD double widen(double x) { return x; }
DETCORE_HD float widen(__half x) { return __half2float(x); }
DETCORE_HD float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
DETCORE_HD void narrow(float x, float& out) { out = x; }
DETCORE_HD void narrow(double x, double& out) { out = x; }
DETCORE_HD void narrow(float x, __half& out) { out = __float2half_rn(x); }
DETCORE_HD void narrow(float x, __nv_bfloat16& out) { out = __float2bfloat16_rn(x); }

// n values moved by one access of up to 16 bytes; the pointer is aligned to as many.
template <class S, int n>
struct alignas(sizeof(S) * n) Wide {
  S v[n];
};
template <int n, class S>
__device__ inline Wide<S, n> load_wide(const S* from) {
#if defined(DETCORE_SIMT)
  Wide<S, n> wide;
  simt::load(&wide, from, sizeof wide);
  return wide;
#else
  return *reinterpret_cast<const Wide<S, n>*>(from);
#endif
}
template <int n, class S>
__device__ inline void store_wide(S* to, const Wide<S, n>& wide) {
#if defined(DETCORE_SIMT)
  simt::store(to, &wide, sizeof wide);
#else
  *reinterpret_cast<Wide<S, n>*>(to) = wide;
#endif
}

// A box that may begin anywhere; those of the ops' inputs begin at multiples of their size, or of
// 16 bytes, and are moved by accesses of up to 16 bytes.
template <class S>
DETCORE_HD Box<arithmetic_t<S>> load_box_anywhere(const S* p) {
  return {widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])};
}
template <class S>
__device__ inline Box<arithmetic_t<S>> load_box(const S* p) {
  if constexpr (sizeof(S) == 8) {
    const auto low = load_wide<2>(p), high = load_wide<2>(p + 2);
    return {low.v[0], low.v[1], high.v[0], high.v[1]};
  } else {
    return load_box_anywhere(load_wide<4>(p).v);
  }
}

template <class S>
__device__ inline void store_box(S* p, const Box<arithmetic_t<S>>& b) {
  if constexpr (sizeof(S) == 8) {
    store_wide(p, Wide<S, 2>{b.x1, b.y1}), store_wide(p + 2, Wide<S, 2>{b.x2, b.y2});
  } else {
    Wide<S, 4> wide;
    narrow(b.x1, wide.v[0]), narrow(b.y1, wide.v[1]);
    narrow(b.x2, wide.v[2]), narrow(b.y2, wide.v[3]);
    store_wide(p, wide);
  }
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

// a * b + c, rounded once: only where no IoU is compared.
DETCORE_HD float multiply_add(float a, float b, float c) { return ::fmaf(a, b, c); }
DETCORE_HD double multiply_add(double a, double b, double c) { return ::fma(a, b, c); }

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
