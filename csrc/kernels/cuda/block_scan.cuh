// Prefix sums over the threads of a warp or block, and over an array that a block shares.
#pragma once

#include "vector_loads.cuh"

namespace detcore {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kMostWarps = 32;

// The sum of `own` over this lane and the lanes before it. All lanes of the warp must call it.
__device__ inline uint32_t warp_inclusive_sum(uint32_t own) {
  const int lane = threadIdx.x % 32;
  uint32_t sum = own;
  for (int step = 1; step < 32; step *= 2) {
    const uint32_t lower = __shfl_up_sync(kAllLanes, sum, step);
    if (lane >= step) sum += lower;
  }
  return sum;
}

// The sum of `own` over the threads before this one; `total` is the sum over all threads. All
// threads of the block must call it, and their number must be a multiple of 32.
__device__ inline uint32_t exclusive_sum(uint32_t own, uint32_t& total) {
  __shared__ uint32_t warp_sums[kMostWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const uint32_t upto = warp_inclusive_sum(own);
  __syncthreads();  // every thread has read the last call's sums
  if (lane == 31) warp_sums[warp] = upto;
  __syncthreads();
  // every warp computes this scan, which saves a barrier
  const uint32_t sums = warp_inclusive_sum(lane < warps ? warp_sums[lane] : 0);
  total = __shfl_sync(kAllLanes, sums, 31);
  const uint32_t before = __shfl_sync(kAllLanes, sums, warp > 0 ? warp - 1 : 0);
  return (warp > 0 ? before : 0) + upto - own;
}

// The same for one bit per thread.
__device__ inline uint32_t exclusive_count(bool own, uint32_t& total) {
  __shared__ uint32_t warp_counts[kMostWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const unsigned votes = __ballot_sync(kAllLanes, own);
  __syncthreads();  // every thread has read the last call's counts
  if (lane == 0) warp_counts[warp] = __popc(votes);
  __syncthreads();
  const uint32_t counts = warp_inclusive_sum(lane < warps ? warp_counts[lane] : 0);
  total = __shfl_sync(kAllLanes, counts, 31);
  const uint32_t before = __shfl_sync(kAllLanes, counts, warp > 0 ? warp - 1 : 0);
  return (warp > 0 ? before : 0) + __popc(votes & ((1u << lane) - 1));
}

// Exclusive prefix sum, in place, of `count` values that the block shares. `count` must be a
// multiple of 4, and `values` aligned to 4 values.
template <class N>
__device__ void exclusive_scan(N* values, uint32_t count) {
  uint32_t each = 4;
  while (each * blockDim.x < count) each *= 2;
  const uint32_t begin = threadIdx.x * each < count ? threadIdx.x * each : count;
  const uint32_t end = begin + each < count ? begin + each : count;
  uint32_t own = 0, total;
  for (uint32_t i = begin; i < end; i += 4) {
    const auto four = load_wide<4>(values + i);
    own += uint32_t(four.v[0]) + four.v[1] + four.v[2] + four.v[3];
  }
  uint32_t before = exclusive_sum(own, total);
  for (uint32_t i = begin; i < end; i += 4) {
    auto four = load_wide<4>(values + i);
    for (int k = 0; k < 4; ++k) {
      const uint32_t value = four.v[k];
      four.v[k] = N(before);
      before += value;
    }
    store_wide(values + i, four);
  }
  __syncthreads();
}

}  // namespace detcore
