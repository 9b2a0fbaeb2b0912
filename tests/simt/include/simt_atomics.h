// Atomics, and loads and stores with a cache hint; part of cuda_runtime.h.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "simt.h"

// half types have no operators on the host
template <class T>
T simt_sum(T a, T b) {
  return T(a + b);
}
inline __half simt_sum(__half a, __half b) {
  return __float2half_rn(__half2float(a) + __half2float(b));
}
inline __nv_bfloat16 simt_sum(__nv_bfloat16 a, __nv_bfloat16 b) {
  return __float2bfloat16_rn(__bfloat162float(a) + __bfloat162float(b));
}
template <class T>
struct SimtSame {
  using type = T;
};
template <class T>
using simt_same = typename SimtSame<T>::type;  // only the pointer determines T

// Fibers of one OS thread switch only at known points, so plain code is atomic.
template <class T, class F>
SIMT_UNSEEN T simt_modify(T* p, const F& next) {
  constexpr bool is_float = !std::is_integral_v<T>;
  simt::atomic(p, sizeof(T), is_float, __builtin_return_address(0));
  const T was = *p;
  *p = next(was);
  return was;
}

#define SIMT_ATOMIC(name, value)                                                                   \
  template <class T>                                                                               \
  __forceinline__ T name(T* p, simt_same<T> x) {                                                   \
    return simt_modify(p, [x](T was) -> T { return value; });                                      \
  }
SIMT_ATOMIC(atomicAdd, simt_sum(was, x))
SIMT_ATOMIC(atomicSub, was - x)
SIMT_ATOMIC(atomicMax, was > x ? was : x)
SIMT_ATOMIC(atomicMin, was < x ? was : x)
SIMT_ATOMIC(atomicOr, was | x)
SIMT_ATOMIC(atomicAnd, was& x)
SIMT_ATOMIC(atomicXor, was ^ x)
SIMT_ATOMIC(atomicExch, ((void)was, x))
SIMT_ATOMIC(atomicInc, was >= x ? 0 : was + 1)
SIMT_ATOMIC(atomicDec, was == 0 || was > x ? x : was - 1)
#undef SIMT_ATOMIC

template <class T>
__forceinline__ T atomicCAS(T* p, simt_same<T> expected, simt_same<T> x) {
  return simt_modify(p, [=](T was) -> T { return was == expected ? x : was; });
}

#define SIMT_LOAD(name)                                                                            \
  template <class T>                                                                               \
  __forceinline__ T name(const T* from) {                                                          \
    return *from;                                                                                  \
  }
SIMT_LOAD(__ldg)
SIMT_LOAD(__ldca)
SIMT_LOAD(__ldcg)
SIMT_LOAD(__ldcs)
SIMT_LOAD(__ldlu)
#undef SIMT_LOAD

#define SIMT_STORE(name)                                                                           \
  template <class T>                                                                               \
  __forceinline__ void name(T* to, simt_same<T> value) {                                           \
    *to = value;                                                                                   \
  }
SIMT_STORE(__stwb)
SIMT_STORE(__stcg)
SIMT_STORE(__stcs)
SIMT_STORE(__stwt)
#undef SIMT_STORE
