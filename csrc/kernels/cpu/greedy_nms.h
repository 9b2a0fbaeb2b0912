// Greedy NMS among ranked boxes of one class, without comparing all pairs.
//
//   fewer than kGridFrom boxes: compare each box, best first, with all kept boxes
//   size the cells by the mean box; search_radius() bounds the distance of two centres   grid
//   histogram of the boxes' cells, prefix sum, boxes sorted by cell                      insert
//   for each box a, in parallel; for each b after a within search_radius():              list
//     IoU(a, b) > t: append (better, worse) to the list of a's block
//   for each box, best first, if alive: alive[worse] = false for its pairs               decide
//   but if so many boxes overlap that the list would be long:
//     decide the best eighth one by one; the others wait for it                          wait
//     for the others, in parallel: drop each box that a kept one suppresses
//     decide what is left one by one, each box against the kept ones near it
//
//   +---+---+---+---+
//   | . | a | 1 | 1 |   Box a is compared with the boxes 1: those after it in its own row,
//   +---+---+---+---+   and those in the next rows, as far as search_radius() reaches.
//   | 1 | 1 | 1 | . |   The boxes before it are compared with a when their turn comes.
//   +---+---+---+---+
#pragma once

#include "overlapping_pairs.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // as in box_grid.h

constexpr int64_t kGridFrom = 256;  // with fewer boxes, each is compared with all kept ones
constexpr int64_t kFewKept = 256;   // up to this many kept boxes are scanned without the grid
// Slots that may be read past the last box, for any lane width.
constexpr int64_t kSlotPad = 64;
// Limit of the list of overlapping pairs; longer lists don't pay.
constexpr int64_t kPairsPerBox = 4;
constexpr int64_t kParallelFrom = 2048;  // minimum of boxes per thread

// The scratch memory of one class, a part of arrays that all classes share.
template <class T>
struct GreedyNmsScratch {
  BoxSlots<T> slots;           // [m + kSlotPad]
  int32_t* slot_rank;          // [m + kSlotPad]
  int32_t* cell;               // [m] by rank; -1: overlaps nothing, is in no cell
  uint32_t* cell_start;        // [2 m + 2] first slot of each cell
  uint32_t* kept;              // [2 m + 2] number of filled slots of each cell
  OverlappingPair* pairs;      // [kPairsPerBox m]
  int32_t* next;               // [kPairsPerBox m] linked list: next pair with the same better box
  int32_t *pair_count, *head;  // [m / kPairBlock + 1], [m]

  // For consecutive segments with `total` boxes in all. Segments of less than kGridFrom boxes need
  // no scratch.
  GreedyNmsScratch(int64_t total, Arena& arena) {
    const int64_t padded = total + kSlotPad * (total / kGridFrom + 1);
    slots = {BoxArrays<T>::take(arena, padded), arena.take<T>(padded)};
    slot_rank = arena.take<int32_t>(padded);
    cell = arena.take<int32_t>(total);
    cell_start = arena.take<uint32_t>(2 * total + 2), kept = arena.take<uint32_t>(2 * total + 2);
    pairs = arena.take<OverlappingPair>(kPairsPerBox * total);
    next = arena.take<int32_t>(kPairsPerBox * total);
    pair_count = arena.take<int32_t>(total / kPairBlock + total / kGridFrom + 1);
    head = arena.take<int32_t>(total);
  }
  // The part of the segment that begins at box `begin`. At most begin / kGridFrom padded segments
  // come before it.
  GreedyNmsScratch from(int64_t begin) const {
    GreedyNmsScratch s = *this;
    const int64_t padded = begin + kSlotPad * (begin / kGridFrom);
    s.slots = slots.from(padded);
    s.slot_rank += padded, s.cell += begin, s.cell_start += 2 * begin, s.kept += 2 * begin;
    s.pairs += kPairsPerBox * begin, s.next += kPairsPerBox * begin, s.head += begin;
    s.pair_count += begin / kPairBlock + begin / kGridFrom;
    return s;
  }
};

// The first few kept boxes, to test other boxes against. They are sorted into columns by their
// centre, so that a box is compared only with the columns it can reach: about a tenth of 200 kept
// boxes.
template <class T>
struct KeptBoxes {
  static constexpr int32_t kColumns = 64;
  // Comparing fewer is faster than sorting them
  static constexpr int64_t kFrom = 4 * Lanes<T>::width;
  BoxSlots<T> slots;
  int64_t kept;
  const BoxGrid<T>& grid;
  const NmsDecision<T>& decision;
  bool by_column;
  GridAxis<T> axis;
  uint32_t column_start[kColumns + 1] = {};

  // The sorted boxes are a copy, stored after the others. `room` tells whether there is space for
  // it.
  KeptBoxes(const BoxSlots<T>& by_rank, int64_t kept, const BoxGrid<T>& grid,
            const NmsDecision<T>& decision, bool room)
      : slots(by_rank),
        kept(kept),
        grid(grid),
        decision(decision),
        by_column(room && kept >= kFrom) {
    if (!by_column) return;
    axis = grid.columns(kColumns);
    slots = by_rank.from(kFewKept + kSlotPad);
    auto column = [&](int64_t k) {
      return int32_t(axis.cell(centre(by_rank.x1[k], by_rank.x2[k]))) & (kColumns - 1);
    };
    for (int64_t k = 0; k < kept; ++k) ++column_start[column(k)];
    for (int32_t c = 0, before = 0; c <= kColumns; ++c) {
      const int32_t count = int32_t(column_start[c]);
      column_start[c] = uint32_t(before);
      before += count;
    }
    // each start advances while its column is filled, and ends at the start of the next column
    for (int64_t k = 0; k < kept; ++k) slots.put(column_start[column(k)]++, by_rank[k]);
    memmove(column_start + 1, column_start, kColumns * sizeof(uint32_t));
    column_start[0] = 0;
    slots.clear(kept, Lanes<T>::width);
  }

  DETCORE_HD bool suppress(const Box<T>& b) const {
    if (!by_column) return slots.any_above(b, 0, kept, decision);
    const T x = centre(b.x1, b.x2);
    const T dx = grid.across.search_radius(x, b.width(), decision.below);
    const int32_t c0 = int32_t(axis.cell(x - dx)), c1 = int32_t(axis.cell(x + dx));
    if (c1 - c0 >= kColumns - 1) return slots.any_above(b, 0, kept, decision);
    const int32_t first = c0 & (kColumns - 1), last = c1 & (kColumns - 1);
    if (first <= last)
      return slots.any_above(b, column_start[first], column_start[last + 1], decision);
    return slots.any_above(b, column_start[first], kept, decision) ||
           slots.any_above(b, 0, column_start[last + 1], decision);
  }
};

template <class T>
class GreedyNms {
 public:
  // alive: [m] out, by rank
  GreedyNms(const RankedBoxes<T>& boxes, double threshold, const GreedyNmsScratch<T>& scratch,
            bool* alive, const Executor& executor)
      : boxes(boxes),
        scratch(scratch),
        alive(alive),
        executor(executor),
        decision(threshold),
        grid(scratch.cell, scratch.cell_start) {}

  void run() {
    if (boxes.m < kGridFrom) return scan_small();
    const bool many = many_overlap();
    const bool measured = grid.measure(boxes);
    if (many && scan_few(measured)) return;
    if (!measured) return scan_all(scratch.slots);
    if (many || !list_pairs()) return scan_kept();
    resolve_pairs();
  }

 private:
  static constexpr int width = Lanes<T>::width;
  RankedBoxes<T> boxes;
  GreedyNmsScratch<T> scratch;
  bool* alive;
  const Executor& executor;
  NmsDecision<T> decision;
  BoxGrid<T> grid;
  int64_t blocks = 0;  // blocks of the list of pairs

  // Small classes use their own memory: they have no padded part of the scratch, and other classes
  // use it at the same time.
  void scan_small() {
    alignas(64) T own[5][kGridFrom + kSlotPad];
    scan_all({{own[0], own[1], own[2], own[3]}, own[4]});
  }

  void scan_all(const BoxSlots<T>& slots) {
    int64_t kept = 0;
    slots.clear(0, width);
    for (int64_t i = 0; i < boxes.m; ++i) keep_if_free_of(slots, i, kept);
  }

  // Returns false if more than kFewKept boxes are kept. The best eighth is likely to suppress most
  // other boxes, and all threads do that together before the rest is decided one by one.
  bool scan_few(bool measured) {
    int64_t kept = 0;
    const int64_t first = boxes.m / 8;
    scratch.slots.clear(0, width);
    for (int64_t i = 0; i < first && kept <= kFewKept; ++i) keep_if_free_of(scratch.slots, i, kept);
    if (kept > kFewKept) return false;
    const bool by_column = measured && boxes.m >= 2 * (kFewKept + kSlotPad);
    const KeptBoxes<T> kept_boxes(scratch.slots, kept, grid, decision, by_column);
    const int64_t grain = kept_boxes.by_column ? kBriefGrain / 2 : kParallelFrom;
    parallel_for(executor, boxes.m - first, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i)
        alive[i] = !kept_boxes.suppress(boxes[i]);
    });
    for (int64_t i = first; i < boxes.m && kept <= kFewKept; ++i)
      if (alive[i]) keep_if_free_of(scratch.slots, i, kept);
    return kept <= kFewKept;
  }

  void keep_if_free_of(const BoxSlots<T>& slots, int64_t i, int64_t& kept) {
    const Box<T> b = boxes[i];
    const bool overlaps = has_area(b);
    alive[i] = !overlaps || !slots.any_above(b, 0, kept, decision);
    if (!alive[i] || !overlaps) return;
    slots.put(kept++, b);
    if (kept % width == 0) slots.clear(kept, width);
  }

  // Estimates from a sample whether the list of pairs would be too long. The sample costs about n /
  // 8 vector tests, and would show about eight pairs if there were kPairsPerBox pairs per box.
  bool many_overlap() const {
    const BoxSlots<T>& slots = scratch.slots;
    int64_t sample = 64;
    while (sample * sample < 4 * boxes.m) sample += 16;
    sample = at_most(boxes.m, sample);
    for (int64_t k = 0; k < sample; ++k) slots.put(k, boxes[k * boxes.m / sample]);
    slots.clear(sample, width);
    int64_t found = 0;
    for (int64_t k = 0; k < sample; ++k) {
      const Box<T> b = slots[k];
      const Box<Lanes<T>> wide = in_all_lanes(b);
      for (int64_t i = k + 1; i < sample; i += width)
        found += __builtin_popcount(slots.bits_above(i, wide, b.area(), decision));
    }
    return 2 * found * boxes.m > kPairsPerBox * sample * sample;
  }

  // Returns false if a block's part of the list is full.
  bool list_pairs() {
    grid.count_boxes(boxes, T(0.25), T(1), executor);
    uint32_t* cell_start = grid.cell_start;
    int64_t inserted = 0;
    // each start advances while its cell is filled, and ends at the start of the next cell
    for (int64_t i = 0; i < boxes.m; ++i)
      if (grid.cell[i] >= 0) scratch.slot_rank[cell_start[grid.cell[i]]++] = int32_t(i), ++inserted;
    const int64_t cells = grid.cells();
    memmove(cell_start + 1, cell_start, cells * sizeof(uint32_t));
    cell_start[0] = 0;
    parallel_for(executor, inserted, kBriefGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) scratch.slots.put(i, boxes[scratch.slot_rank[i]]);
    });
    scratch.slots.clear(inserted, width);
    blocks = divide_up(inserted, kPairBlock);
    const PairFinder<T> finder(grid, scratch.slots, scratch.slot_rank, decision);
    parallel_for(executor, blocks, kParallelFrom / kPairBlock, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t first = block * kPairBlock, last = at_most(inserted, first + kPairBlock);
        scratch.pair_count[block] = finder.list(first, last, scratch.pairs + kPairsPerBox * first,
                                                kPairsPerBox * (last - first));
      }
    });
    for (int64_t block = 0; block < blocks; ++block)
      if (scratch.pair_count[block] < 0) return false;
    return true;
  }

  void resolve_pairs() {
    int32_t *head = scratch.head, *next = scratch.next;
    memset(head, 0xff, boxes.m * sizeof(int32_t));
    memset(alive, 1, boxes.m);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = kPairsPerBox * kPairBlock * block;
      for (int64_t e = first; e < first + scratch.pair_count[block]; ++e) {
        int32_t& newest = head[scratch.pairs[e].better];
        next[e] = newest;
        newest = int32_t(e);
      }
    }
    for (int64_t i = 0; i < boxes.m; ++i)
      if (alive[i])
        for (int32_t e = head[i]; e >= 0; e = next[e]) alive[scratch.pairs[e].worse] = false;
  }

  // In two parts, as in scan_few().
  void scan_kept() {
    grid.count_boxes(boxes, T(0.5), T(0.5), executor);
    const int64_t cells = grid.cells();
    memset(scratch.kept, 0, cells * sizeof(uint32_t));
    scratch.slots.clear(0, boxes.m + width);
    const int64_t first = boxes.m / 8;
    for (int64_t i = 0; i < first; ++i) keep_if_free(i);
    parallel_for(executor, boxes.m - first, kParallelFrom, [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i)
        alive[i] = grid.cell[i] < 0 || !suppressed_nearby(boxes[i]);
    });
    for (int64_t i = first; i < boxes.m; ++i)
      if (alive[i]) keep_if_free(i);
  }
  void keep_if_free(int64_t i) {
    const int32_t c = grid.cell[i];
    alive[i] = c < 0 || !suppressed_nearby(boxes[i]);
    if (alive[i] && c >= 0) scratch.slots.put(grid.cell_start[c] + scratch.kept[c]++, boxes[i]);
  }
  bool suppressed_nearby(const Box<T>& b) const {
    const T t = decision.below;
    const T x = centre(b.x1, b.x2), y = centre(b.y1, b.y2);
    const T dx = grid.across.search_radius(x, b.width(), t),
            dy = grid.down.search_radius(y, b.height(), t);
    auto suppressed = [&](int64_t c0, int64_t c1) {
      // if there are many small cells, testing empty slots costs less than visiting each cell
      const int64_t begin = grid.cell_start[c0], end = grid.cell_start[c1 + 1];
      if (end - begin <= width * (c1 - c0)) return scratch.slots.any_above(b, begin, end, decision);
      for (int64_t c = c0; c <= c1; ++c)
        if (scratch.slots.any_above(b, grid.cell_start[c], grid.cell_start[c] + scratch.kept[c],
                                    decision))
          return true;
      return false;
    };
    return grid.any_range(int32_t(grid.down.cell(y - dy)), int32_t(grid.down.cell(y + dy)),
                          int32_t(grid.across.cell(x - dx)), int32_t(grid.across.cell(x + dx)),
                          suppressed);
  }
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
