// The best k of many scored items, by one block. A radix selection, eight bits per pass, finds the
// k-th best item. Items are distinct, so the result does not depend on the order of the threads.
#pragma once

#include "block_scan.cuh"
#include "block_sort.cuh"

namespace detcore {

// The digits of an item are its bytes, beginning with the highest byte of the key.
template <class Key>
constexpr int kDigits = int(sizeof(Key) + sizeof(uint32_t));
template <class Key>
__device__ int digit_of(const Item<Key>& item, int digit) {
  const int left = kDigits<Key> - 1 - digit;
  return left >= 4 ? int(item.key >> (8 * (left - 4)) & 255) : int(item.place >> (8 * left) & 255);
}
template <class Key>
__device__ void set_digit(Item<Key>& item, int digit, int to) {
  const int left = kDigits<Key> - 1 - digit;
  if (left >= 4)
    item.key ^= (item.key ^ Key(to) << (8 * (left - 4))) & Key(255) << (8 * (left - 4));
  else
    item.place ^= (item.place ^ uint32_t(to) << (8 * left)) & 255u << (8 * left);
}
template <class Key>
__device__ bool same_digits(const Item<Key>& a, const Item<Key>& b, int count) {
  if (count == 0) return true;
  const int left = kDigits<Key> - count;
  if (left >= 4) return ((a.key ^ b.key) >> (8 * (left - 4))) == 0;
  return a.key == b.key && ((a.place ^ b.place) >> (8 * left)) == 0;
}

constexpr int kBins = 256;

struct Bin {
  int digit;
  uint32_t before;  // items in the bins below this one
  uint32_t inside;
};

// Finds the bin that holds the item number `wanted` >= 1. One warp calls it.
__device__ inline void find_bin(const uint32_t* histogram, uint32_t wanted, Bin& bin) {
  constexpr int per_lane = kBins / 32;
  const int lane = threadIdx.x;
  uint32_t own = 0;
  for (int k = 0; k < per_lane; ++k) own += histogram[lane * per_lane + k];
  const uint32_t upto = warp_inclusive_sum(own);
  uint32_t before = upto - own;
  if (upto < wanted || before >= wanted) return;
  int digit = lane * per_lane;
  while (before + histogram[digit] < wanted) before += histogram[digit++];
  bin = {digit, before, histogram[digit]};
}

// Writes the best `keep` >= 1 items in any order and returns their number. source(i, item) sets
// item i < n, or returns false if there is none. It is called once per i if there are at most
// `keep` items, else once more per radix pass.
template <class Key, class Source>
__device__ uint32_t block_top_k(const Source& source, int64_t n, uint32_t keep, Item<Key>* out) {
  __shared__ uint32_t histogram[kBins], taken;
  __shared__ Bin bin;
  Item<Key> last{~Key(0), ~uint32_t(0)}, item;  // the k-th best item, found digit by digit
  if (threadIdx.x == 0) taken = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    if (!source(i, item)) continue;
    const uint32_t at = atomicAdd(&taken, 1u);
    if (at < keep) out[at] = item;
  }
  __syncthreads();
  if (taken <= keep) return taken;
  for (int digit = 0; digit < kDigits<Key>; ++digit) {
    for (int k = threadIdx.x; k < kBins; k += blockDim.x) histogram[k] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      if (source(i, item) && same_digits(item, last, digit))
        atomicAdd(&histogram[digit_of(item, digit)], 1u);
    __syncthreads();
    if (threadIdx.x < 32) find_bin(histogram, keep, bin);
    __syncthreads();
    set_digit(last, digit, bin.digit);
    keep -= bin.before;
    if (bin.inside == keep) break;  // all items of this bin belong to the result
  }
  __syncthreads();  // every thread has read the first count
  if (threadIdx.x == 0) taken = 0;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
    if (source(i, item) && !comes_before(last, item)) out[atomicAdd(&taken, 1u)] = item;
  __syncthreads();
  return taken;
}

}  // namespace detcore
