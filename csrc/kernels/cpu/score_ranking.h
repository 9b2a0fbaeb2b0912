// What nms and nms_rotated share: boxes sorted by score, grouped by class, and the kept ones
// written by rank.
#pragma once

#include "kernel.h"
#include "radix_sort.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // private to each file, because each is compiled for several instruction sets

// From this size on, all threads work on one class
constexpr int64_t kLargeClass = 8192;

// Sorts items by the 64 bits of key(payload), in two passes of 32 bits. Overwrites `other`.
template <class Key>
void sort_by_wide_key(uint64_t*& items, uint64_t*& other, int64_t n, const Key& key) {
  for (int shift = 0; shift < 64; shift += 32) {
    for (int64_t i = 0; i < n; ++i)
      items[i] = packed(uint32_t(key(value_of(items[i])) >> shift), value_of(items[i]));
    uint64_t* sorted = radix_sort(items, other, n);
    other = sorted == items ? other : items;
    items = sorted;
  }
}

class ScoreRanking {
 public:
  bool* alive;             // [valid] by class, then by score: whether the box is kept
  int64_t valid, classes;  // of the boxes that take part
  int64_t* segments;       // [classes + 1] begin of each class

  ScoreRanking(int64_t n, const int64_t* ids, Arena& arena)
      : alive(arena.take<bool>(n)),
        valid(0),
        classes(0),
        segments(arena.take<int64_t>(n + 1)),
        ids(ids),
        by_score(arena.take<uint64_t>(n)),
        by_class(ids ? arena.take<uint64_t>(n) : nullptr),
        other(arena.take<uint64_t>(n)),
        alive_by_rank(ids ? arena.take<bool>(n) : alive) {}

  // Sorts the boxes that takes_part(i), but for those with a NaN score, best first.
  template <class ScoreS, class TakesPart>
  void sort(const ScoreS* scores, int64_t n, const TakesPart& takes_part) {
    valid = 0;
    for (int64_t i = 0; i < n; ++i) {
      const auto score = widen(scores[i]);
      by_score[valid] = packed(uint32_t(descending_key(score)), uint32_t(i));
      valid += takes_part(i) & (score == score);
    }
    if constexpr (sizeof(widen(ScoreS{})) == 8) {
      sort_by_wide_key(by_score, other, valid,
                       [&](uint32_t i) { return descending_key(widen(scores[i])); });
    } else {
      uint64_t* sorted = radix_sort(by_score, other, valid);
      other = sorted == by_score ? other : by_score;
      by_score = sorted;
    }
    group_by_class();
  }

  // The index in the input of the i-th box, by class, then by score.
  int64_t index(int64_t i) const { return value_of(by_score[rank(i)]); }

  // Calls suppress(begin, end, executor) for each class: first for the large ones, one by one, each
  // with all threads, then for the small ones in parallel.
  template <class Suppress>
  void each_class(const Executor& executor, const Suppress& suppress) const {
    auto large = [&](int64_t c) { return segments[c + 1] - segments[c] >= kLargeClass; };
    for (int64_t c = 0; c < classes; ++c)
      if (large(c)) suppress(segments[c], segments[c + 1], executor);
    const int64_t grain = 1 + classes * 512 / (valid + 1);
    parallel_for(executor, classes, grain, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        if (!large(c)) suppress(segments[c], segments[c + 1], Executor{});
    });
  }

  // Writes the indices of the boxes that are alive, best first, and returns their number.
  int64_t write(int64_t* keep) const {
    if (ids)
      for (int64_t i = 0; i < valid; ++i) alive_by_rank[rank(i)] = alive[i];
    int64_t count = 0;
    for (int64_t r = 0; r < valid; ++r) {
      keep[count] = value_of(by_score[r]);
      count += alive_by_rank[r];
    }
    return count;
  }

 private:
  const int64_t* ids;
  uint64_t *by_score, *by_class, *other;  // [n] (key, index), (key, rank), scratch
  bool* alive_by_rank;                    // [n] by score

  int64_t rank(int64_t i) const { return ids ? int64_t(value_of(by_class[i])) : i; }

  void group_by_class() {
    segments[0] = 0, segments[1] = valid, classes = valid > 0;
    if (!ids || valid == 0) return;
    auto id = [&](uint32_t rank) { return uint64_t(ids[value_of(by_score[rank])]); };
    for (int64_t r = 0; r < valid; ++r) by_class[r] = uint64_t(r);
    sort_by_wide_key(by_class, other, valid, id);
    classes = 0;
    uint64_t last = id(value_of(by_class[0]));
    for (int64_t i = 1; i < valid; ++i) {
      const uint64_t own = id(value_of(by_class[i]));
      if (own != last) segments[++classes] = i;
      last = own;
    }
    segments[++classes] = valid;
  }
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
