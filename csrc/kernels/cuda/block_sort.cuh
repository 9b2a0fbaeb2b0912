// Sorting of scored items by one block.
#pragma once

#include <cuda_runtime.h>

#include "detcore/float_bits.h"

namespace detcore {

// Ascending items are descending scores, equal ones by ascending place.
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

// Sorts `count` distinct items, which all threads of the block see, by merging runs two by two.
// Each item finds its place in the merged run by itself: it bisects the other run for the items
// that come before it. That is log2(count) barriers, and a bitonic network needs the square of it.
// `spare` has room for as many items. Returns where the sorted ones are: in `items` or in `spare`.
template <class Key>
__device__ Item<Key>* merge_sort(Item<Key>* items, Item<Key>* spare, uint32_t count) {
  for (uint32_t run = 1; run < count; run *= 2) {
    for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
      const Item<Key> item = items[i];
      const uint32_t own = i & ~(run - 1), other = own ^ run;  // where the two runs begin
      const uint32_t length = other + run <= count ? run : other < count ? count - other : 0;
      uint32_t before = 0;
      for (uint32_t step = run; step > 0; step /= 2) {
        const uint32_t probe = before + step;
        if (probe <= length && comes_before(items[other + probe - 1], item)) before = probe;
      }
      spare[(own & other) + (i - own) + before] = item;
    }
    // up to 32 items are one warp's own
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
