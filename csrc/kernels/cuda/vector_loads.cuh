// Loads and stores of several values, or a box, by one access of up to 16 bytes per thread.
#pragma once

#include <cuda_runtime.h>

#include "detcore/box.h"
#include "dispatch.cuh"

namespace detcore {

inline bool aligned_to_16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// n values, at most 16 bytes. Pointers to them must be aligned to their size.
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

// load_box_anywhere() needs no alignment. load_box() and store_box() need the box to be aligned to
// its size or to 16 bytes, as in the inputs of all ops.
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

}  // namespace detcore
