// Greedy NMS among ranked boxes of one class, without comparing all pairs.
//
// IoU > t bounds the distance of two centres (GridAxis::search_radius), so boxes are put into the
// cells of a uniform grid by their centre and compared with those near them only. Where few boxes
// overlap, all overlapping pairs are listed in the grid's order, by all threads, and resolved by
// rank. Where many do, the list would grow with the square: each box is compared with kept ones
// alone, best first.
#pragma once

#include "overlapping_pairs.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // as in box_grid.h

constexpr int64_t kGridFrom = 256;       // boxes below which all kept ones are scanned
constexpr int64_t kFewKept = 256;        // kept ones that are all scanned, from no grid
constexpr int64_t kSlotPad = 64;         // slots read past the last box, any lane width
constexpr int64_t kPairsPerBox = 4;      // overlapping pairs listed: more are not worth a list
constexpr int64_t kParallelFrom = 2048;  // boxes a thread takes at least

// The scratch of one class, cut from arrays that all classes share.
template <class T>
struct GreedyNmsScratch {
  BoxSlots<T> slots;           // [m + kSlotPad]
  int32_t* slot_rank;          // [m + kSlotPad]
  int32_t* cell;               // [m] by rank; -1: overlaps nothing, stands nowhere
  uint32_t* cell_start;        // [2 m + 2] where each cell's slots begin
  uint32_t* kept;              // [2 m + 2] how many are filled
  OverlappingPair* pairs;      // [kPairsPerBox m]
  int32_t* next;               // [kPairsPerBox m] the next pair of the same better box
  int32_t *pair_count, *head;  // [m / kPairBlock + 1], [m]

  // For segments that lie one behind the other, `total` boxes in all; those of less than kGridFrom
  // boxes need none of it.
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
  // The part of the segment that begins at box `begin`: at most begin / kGridFrom segments with
  // pads stand before it.
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

// The first kept boxes, few of them, and what they suppress. Sorted into columns by their centre,
// a box is compared with those in the columns that it can reach: of 200 kept boxes a tenth.
template <class T>
struct KeptBoxes {
  static constexpr int32_t kColumns = 64;
  static constexpr int64_t kFrom = 4 * Lanes<T>::width;  // fewer are compared sooner than looked up
  BoxSlots<T> slots;
  int64_t kept;
  const BoxGrid<T>& grid;
  const NmsDecision<T>& decision;
  bool by_column;
  GridAxis<T> axis;
  uint32_t column_start[kColumns + 1] = {};

  // The sorted ones are a copy, behind the others, if there is room for one.
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
    // each start runs ahead while its column fills, and ends where the next one begins
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
  int64_t blocks = 0;  // of the list of pairs

  // Small classes have no pads in the scratch, which others use at the same time.
  void scan_small() {
    alignas(64) T own[5][kGridFrom + kSlotPad];
    scan_all({{own[0], own[1], own[2], own[3]}, own[4]});
  }

  // Every box against all kept ones.
  void scan_all(const BoxSlots<T>& slots) {
    int64_t kept = 0;
    slots.clear(0, width);
    for (int64_t i = 0; i < boxes.m; ++i) keep_if_free_of(slots, i, kept);
  }

  // The same, where few are kept; false if they are not so few. The best eighth is likely to
  // suppress most others: those are struck out by all threads before the rest goes on one by one.
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

  // Do boxes overlap so much that a list of the pairs would be long? A sample tells: of about
  // n / 8 vector tests, where a list of kPairsPerBox a box would show some eight pairs.
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

  // Lists the pairs above the threshold. False if a block's piece of the list is full.
  bool list_pairs() {
    grid.count_boxes(boxes, T(0.25), T(1), executor);
    uint32_t* cell_start = grid.cell_start;
    int64_t inserted = 0;
    // each start runs ahead while its cell fills, and ends where the next one begins
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

  // Best first: a box that is still alive strikes out what it overlaps.
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

  // Best first, every box against the kept ones near it; in two parts as in scan_few.
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
      // where cells are many and small, slots not yet filled cost less than the cells
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
