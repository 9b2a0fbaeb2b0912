// The best of a stream of scored items, in limited memory. An item packs the key of a score (upper
// bits) and a place (lower bits). So items are distinct, and ascending items have descending
// scores; equal scores are in order of place.
#pragma once

#include "radix_sort.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // private to each file, because each is compiled for several instruction sets

template <class Score>
struct ItemOf {
  using type = uint64_t;
};
template <>
struct ItemOf<double> {
  using type = unsigned __int128;
};
template <class Score>
using item_t = typename ItemOf<Score>::type;

DETCORE_HD uint64_t item_of(float score, uint32_t place) {
  return packed(descending_key(score), place);
}
DETCORE_HD unsigned __int128 item_of(double score, uint32_t place) {
  return (unsigned __int128)(descending_key(score)) << 32 | place;
}
template <class Item>
DETCORE_HD uint32_t place_of(Item item) {
  return uint32_t(item);
}

// The largest score below that of an item: any score above it is at least as good as the item's.
DETCORE_HD float just_below(uint64_t item) {
  const uint32_t bits = ~uint32_t(item >> 32);
  return ::nextafterf(bit_cast<float>(bits >> 31 ? bits ^ 0x80000000u : ~bits), -INFINITY);
}
DETCORE_HD double just_below(unsigned __int128 item) {
  const uint64_t bits = ~uint64_t(item >> 32);
  return ::nextafter(bit_cast<double>(bits >> 63 ? bits ^ uint64_t(1) << 63 : ~bits), -INFINITY);
}

// Moves the `count` least of n > count >= 1 distinct items to the front, in any order.
template <class Item>
void select_least(Item* items, int64_t n, int64_t count) {
  uint32_t random = 1;
  auto any = [&](int64_t below) {
    random = random * 1664525u + 1013904223u;
    return int64_t(uint64_t(random) * uint64_t(below) >> 32);
  };
  for (int64_t begin = 0, end = n; end - begin > 1;) {
    const Item a = items[begin + any(end - begin)], b = items[begin + any(end - begin)];
    const Item c = items[begin + any(end - begin)];
    const Item low = a < b ? a : b, high = a < b ? b : a;
    const Item pivot = c < low ? low : c > high ? high : c;
    // without a branch, because half of them would be mispredicted
    int64_t split = begin;
    for (int64_t i = begin; i < end; ++i) {
      const Item item = items[i];
      items[i] = items[split];
      items[split] = item;
      split += item <= pivot;
    }
    if (split == count) return;
    if (split < count)
      begin = split;
    else if (split < end)
      end = split;
    else
      continue;  // the pivot was the greatest: choose another one
  }
}

// Sorts items. Returns `items` or `other`, whichever contains the result.
uint64_t* sort_items(uint64_t* items, uint64_t* other, int64_t n) {
  uint64_t* sorted = radix_sort(items, other, n);
  uint64_t* spare = sorted == items ? other : items;
  auto swap_halves = [](uint64_t x) { return x << 32 | x >> 32; };
  for (int64_t begin = 0, end; begin < n; begin = end) {
    for (end = begin + 1; end < n && sorted[end] >> 32 == sorted[begin] >> 32;) ++end;
    if (end - begin == 1) continue;
    for (int64_t i = begin; i < end; ++i) sorted[i] = swap_halves(sorted[i]);
    const uint64_t* by_place = radix_sort(sorted + begin, spare + begin, end - begin);
    for (int64_t i = begin; i < end; ++i) sorted[i] = swap_halves(by_place[i - begin]);
  }
  return sorted;
}

// A bottom-up merge sort.
unsigned __int128* sort_items(unsigned __int128* items, unsigned __int128* other, int64_t n) {
  for (int64_t run = 1; run < n; run *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * run) {
      const int64_t middle = at_most(n, begin + run), end = at_most(n, begin + 2 * run);
      int64_t i = begin, j = middle;
      for (int64_t to = begin; to < end; ++to)
        other[to] = j == end || (i < middle && items[i] < items[j]) ? items[i++] : items[j++];
    }
    unsigned __int128* merged = other;
    other = items, items = merged;
  }
  return items;
}

// Collects the `keep` best pushed items, and perhaps some more. `floor` rises to just below the
// worst item that still matters; items not above it need not be pushed.
template <class T>
struct TopK {
  item_t<T>* items;  // [capacity] more than `keep`, or enough for all items
  int64_t capacity, keep;
  T* floor;
  int64_t count = 0;
  bool dropped = false;

  DETCORE_HD void push(item_t<T> item) {
    if (count == capacity) trim();
    items[count++] = item;
  }
  __attribute__((noinline)) void trim() {
    if (count <= keep) return;
    select_least(items, count, keep);
    count = keep, dropped = true;
    item_t<T> worst = items[0];
    for (int64_t i = 1; i < keep; ++i) worst = items[i] > worst ? items[i] : worst;
    const T least = just_below(worst);
    if (least > *floor) *floor = least;
  }
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
