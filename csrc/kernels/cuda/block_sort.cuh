// Sorting of scored items by one block.
#pragma once

#include <cuda_runtime.h>

#include "detcore/float_bits.h"

namespace detcore {

// Ascending items have descending scores; equal scores are in order of ascending place.
template <class Key>
struct alignas(2 * sizeof(Key)) Item {
  Key key;
  uint32_t place;
};
template <class Key>
__device__ bool comes_before(const Item<Key>& a, const Item<Key>& b) {
  return a.key < b.key || (a.key == b.key && a.place < b.place);
}

template <class T>
using key_t = decltype(descending_key(T{}));

// Merge sort of `count` distinct items by one block. One thread per item finds the item's place in
// the merged run by a binary search in the other run. This needs log2(count) barriers; a bitonic
// network needs log2(count) squared. `spare` has room for `count` items. Returns the sorted array,
// which is `items` or `spare`.
template <class Key>
__device__ Item<Key>* merge_sort(Item<Key>* items, Item<Key>* spare, uint32_t count) {
  for (uint32_t run = 1; run < count; run *= 2) {
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
      const Item<Key> item = items[i];
      const uint32_t own = i & ~(run - 1), other = own ^ run;  // begins of the two runs
      const uint32_t length = other + run <= count ? run : other < count ? count - other : 0;
      uint32_t before = 0;
      for (uint32_t step = run; step > 0; step /= 2) {
        const uint32_t probe = before + step;
        if (probe <= length && comes_before(items[other + probe - 1], item)) before = probe;
      }
      spare[(own & other) + (i - own) + before] = item;
    }
    // up to 32 items belong to one warp
    if (run < 16)
      __syncwarp();
    else
      __syncthreads();
    Item<Key>* const merged = spare;
    spare = items, items = merged;
  }
  __syncthreads();
  return items;
}

}  // namespace detcore
