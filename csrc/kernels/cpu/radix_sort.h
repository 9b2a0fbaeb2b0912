// A stable sort of pairs packed into 64 bits: the key in the upper 32 bits, the value in the lower.
#pragma once

#include "detcore/float_bits.h"
#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // private to each file, because each is compiled for several instruction sets

DETCORE_HD uint64_t packed(uint32_t key, uint32_t value) { return uint64_t(key) << 32 | value; }
DETCORE_HD uint32_t value_of(uint64_t item) { return uint32_t(item); }

// With fewer items, the digit tables cost more than they save.
constexpr int64_t kRadixFrom = 48;
// From this number of items on, tables of 2,048 entries are faster, because they save a pass.
constexpr int64_t kWideDigitsFrom = 6000;

template <int bits>
uint64_t* radix_sort_by(uint64_t* items, uint64_t* other, int64_t n) {
  constexpr int passes = (32 + bits - 1) / bits, size = 1 << bits;
  uint32_t start[passes][size] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int pass = 0; pass < passes; ++pass)
      ++start[pass][items[i] >> (32 + bits * pass) & (size - 1)];
  for (int pass = 0; pass < passes; ++pass) {
    const int shift = 32 + bits * pass;
    uint32_t* at = start[pass];
    if (at[items[0] >> shift & (size - 1)] == n) continue;  // all keys agree on this digit
    uint32_t sum = 0;
    for (int digit = 0; digit < size; ++digit) {
      const uint32_t count = at[digit];
      at[digit] = sum;
      sum += count;
    }
    for (int64_t i = 0; i < n; ++i) other[at[items[i] >> shift & (size - 1)]++] = items[i];
    uint64_t* sorted = other;
    other = items, items = sorted;
  }
  return items;
}

// Sorts n < 2^32 items by key; equal keys keep their order. Returns `items` or `other`, whichever
// contains the result.
uint64_t* radix_sort(uint64_t* items, uint64_t* other, int64_t n) {
  if (n >= kWideDigitsFrom) return radix_sort_by<11>(items, other, n);
  if (n >= kRadixFrom) return radix_sort_by<8>(items, other, n);
  for (int64_t i = 1; i < n; ++i) {
    const uint64_t item = items[i];
    int64_t j = i;
    for (; j > 0 && items[j - 1] >> 32 > item >> 32; --j) items[j] = items[j - 1];
    items[j] = item;
  }
  return items;
}

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
