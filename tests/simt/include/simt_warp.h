// Barriers and warp intrinsics; part of cuda_runtime.h.
#pragma once

#include <cstring>

#include "simt.h"

// --- barriers ----------------------------------------------------------------------------------

// the caller's source position, which the compiler fills in
#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(SIMT_SITE) { simt::block_barrier("__syncthreads", 0, {file, line}); }
inline int __syncthreads_count(int x, SIMT_SITE) {
  return simt::block_barrier("__syncthreads_count", x != 0, {file, line});
}
inline int __syncthreads_or(int x, SIMT_SITE) {
  return simt::block_barrier("__syncthreads_or", x != 0, {file, line}) != 0;
}
inline int __syncthreads_and(int x, SIMT_SITE) {
  return simt::block_barrier("__syncthreads_and", x == 0, {file, line}) == 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  simt::exchange("__syncwarp", mask, simt::Combine::nothing, 0);
}
inline void __threadfence() { simt::fence(); }
inline void __threadfence_block() { simt::fence(); }
inline void __threadfence_system() { simt::fence(); }
inline void __nanosleep(unsigned) { simt::pause(); }

// --- votes and matches -------------------------------------------------------------------------

inline unsigned __activemask() { return simt::live_lanes(); }
inline unsigned __ballot_sync(unsigned mask, int x) {
  return unsigned(simt::exchange("__ballot_sync", mask, simt::Combine::ballot, x != 0));
}
inline int __any_sync(unsigned mask, int x) {
  return simt::exchange("__any_sync", mask, simt::Combine::ballot, x != 0) != 0;
}
inline int __all_sync(unsigned mask, int x) {
  return simt::exchange("__all_sync", mask, simt::Combine::ballot, x == 0) == 0;
}

template <class T>
uint64_t simt_bits(T x) {
  static_assert(sizeof(T) <= 8, "warp intrinsics move at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &x, sizeof(T));
  return bits;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T x) {
  return unsigned(simt::exchange("__match_any_sync", mask, simt::Combine::match, simt_bits(x)));
}
template <class T>
unsigned __match_all_sync(unsigned mask, T x, int* all) {
  const auto same =
      unsigned(simt::exchange("__match_all_sync", mask, simt::Combine::match, simt_bits(x)));
  *all = same == mask;
  return *all ? mask : 0;
}

// --- shuffles ----------------------------------------------------------------------------------

// a lane keeps its own value if the source is outside its segment
template <class T>
T simt_shuffle(const char* name, unsigned mask, T x, int from, bool inside) {
  const uint64_t bits = simt::exchange(name, mask, simt::Combine::pick, simt_bits(x),
                                       inside ? from & 31 : simt::lane());
  memcpy(&x, &bits, sizeof(T));
  return x;
}
template <class T>
T __shfl_sync(unsigned mask, T x, int from, int width = 32) {
  const int lane = simt::lane();
  return simt_shuffle("__shfl_sync", mask, x, (lane & ~(width - 1)) + (from & (width - 1)), true);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T x, int flip, int width = 32) {
  const int lane = simt::lane(), from = lane ^ flip;
  return simt_shuffle("__shfl_xor_sync", mask, x, from, from < (lane & ~(width - 1)) + width);
}
template <class T>
T __shfl_down_sync(unsigned mask, T x, unsigned step, int width = 32) {
  const int lane = simt::lane(), from = lane + int(step);
  return simt_shuffle("__shfl_down_sync", mask, x, from, from < (lane & ~(width - 1)) + width);
}
template <class T>
T __shfl_up_sync(unsigned mask, T x, unsigned step, int width = 32) {
  const int lane = simt::lane(), from = lane - int(step);
  return simt_shuffle("__shfl_up_sync", mask, x, from, from >= (lane & ~(width - 1)));
}

// --- reductions, of sm_80 and later ------------------------------------------------------------

#if DETCORE_SM >= 80
#define SIMT_REDUCE(name, type, combine)                                                           \
  inline type name(unsigned mask, type x) {                                                        \
    return type(simt::exchange(#name, mask, simt::Combine::combine, simt_bits(x)));                \
  }
SIMT_REDUCE(__reduce_add_sync, unsigned, add)
SIMT_REDUCE(__reduce_add_sync, int, add)
SIMT_REDUCE(__reduce_min_sync, unsigned, min_unsigned)
SIMT_REDUCE(__reduce_max_sync, unsigned, max_unsigned)
SIMT_REDUCE(__reduce_min_sync, int, min_int)
SIMT_REDUCE(__reduce_max_sync, int, max_int)
SIMT_REDUCE(__reduce_and_sync, unsigned, bit_and)
SIMT_REDUCE(__reduce_or_sync, unsigned, bit_or)
SIMT_REDUCE(__reduce_xor_sync, unsigned, bit_xor)
#undef SIMT_REDUCE
#endif
