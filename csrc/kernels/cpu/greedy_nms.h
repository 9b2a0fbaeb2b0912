// Greedy suppression among ranked boxes of one class, without comparing all pairs.
//
// IoU > t bounds the distance of two centres (see `reach`), so boxes are filed in a uniform grid by
// their centre and compared with those near them only. Where few boxes overlap, all overlapping
// pairs are listed in the grid's order, by all threads, and resolved by rank. Where many do, the
// list would grow with the square: each box is compared with kept ones alone, best first.
#pragma once

#include "box_grid.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // as in box_grid.h

constexpr int64_t kGridFrom = 256;   // boxes below which all kept ones are scanned
constexpr int64_t kFewKept = 256;    // kept ones that are all scanned, from no grid
constexpr int64_t kSlotPad = 64;     // slots read past the last box, any lane width
constexpr int64_t kPairsABox = 4;    // overlapping pairs listed, a box: more are not worth a list
constexpr int64_t kPairBlock = 512;  // boxes that share one piece of the list
constexpr int64_t kParallelFrom = 2048;  // boxes a thread takes at least

// A pair above the threshold, by rank.
struct OverlappingPair {
  int32_t better, worse;
};

// The scratch of one class, cut from arrays that all classes share.
template <class T>
struct SuppressScratch {
  Slots<T> slots;              // [m + kSlotPad]
  int32_t* slot_rank;          // [m + kSlotPad]
  int32_t* cell;               // [m] by rank; -1: overlaps nothing, stands nowhere
  uint32_t* start;             // [2 m + 2] where each cell's slots begin
  uint32_t* kept;              // [2 m + 2] how many are filled
  OverlappingPair* pairs;      // [kPairsABox m]
  int32_t* next;               // [kPairsABox m] the next pair of the same better box
  int32_t *pair_count, *head;  // [m / kPairBlock + 1], [m]

  // For segments that lie one behind the other, `total` boxes in all; those of less than kGridFrom
  // boxes need none of it.
  SuppressScratch(int64_t total, Arena& arena) {
    const int64_t padded = total + kSlotPad * (total / kGridFrom + 1);
    slots = {arena.take<T>(padded), arena.take<T>(padded), arena.take<T>(padded),
             arena.take<T>(padded), arena.take<T>(padded)};
    slot_rank = arena.take<int32_t>(padded);
    cell = arena.take<int32_t>(total);
    start = arena.take<uint32_t>(2 * total + 2), kept = arena.take<uint32_t>(2 * total + 2);
    pairs = arena.take<OverlappingPair>(kPairsABox * total);
    next = arena.take<int32_t>(kPairsABox * total);
    pair_count = arena.take<int32_t>(total / kPairBlock + total / kGridFrom + 1);
    head = arena.take<int32_t>(total);
  }
  // The part of the segment that begins at box `begin`: at most begin / kGridFrom segments with
  // pads stand before it.
  SuppressScratch from(int64_t begin) const {
    SuppressScratch s = *this;
    const int64_t padded = begin + kSlotPad * (begin / kGridFrom);
    s.slots = {slots.x1 + padded, slots.y1 + padded, slots.x2 + padded, slots.y2 + padded,
               slots.area + padded};
    s.slot_rank += padded, s.cell += begin, s.start += 2 * begin, s.kept += 2 * begin;
    s.pairs += kPairsABox * begin, s.next += kPairsABox * begin, s.head += begin;
    s.pair_count += begin / kPairBlock + begin / kGridFrom;
    return s;
  }
};

template <class T>
class Suppression {
 public:
  // alive: [m] out, by rank
  Suppression(const RankedBoxes<T>& boxes, double threshold, const SuppressScratch<T>& scratch,
              bool* alive, const Executor& executor)
      : boxes(boxes),
        scratch(scratch),
        alive(alive),
        executor(executor),
        decision(threshold),
        grid(scratch.cell, scratch.start) {}

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
  SuppressScratch<T> scratch;
  bool* alive;
  const Executor& executor;
  Decision<T> decision;
  BoxGrid<T> grid;
  int64_t blocks = 0;  // of the list of pairs

  // Small classes have no pads in the scratch, which others use at the same time.
  void scan_small() {
    alignas(64) T own[5][kGridFrom + kSlotPad];
    scan_all({own[0], own[1], own[2], own[3], own[4]});
  }

  // Every box against all kept ones.
  void scan_all(const Slots<T>& slots) {
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
    const Columns columns(*this, kept, measured);
    const int64_t grain = columns.sorted ? kBriefGrain / 2 : kParallelFrom;
    parallel_for(executor, boxes.m - first, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i)
        alive[i] = !columns.suppress(*this, boxes[i]);
    });
    for (int64_t i = first; i < boxes.m && kept <= kFewKept; ++i)
      if (alive[i]) keep_if_free_of(scratch.slots, i, kept);
    return kept <= kFewKept;
  }

  // A copy of the few kept boxes, sorted by the column in which their centre lies: a box is
  // compared with those in the columns that it can reach. Of 200 kept boxes that is a tenth.
  struct Columns {
    static constexpr int32_t kColumns = 64;
    static constexpr int64_t kFrom = 4 * width;  // fewer are compared sooner than looked up
    Slots<T> slots;
    int64_t kept;
    bool sorted;
    GridAxis<T> axis;
    uint32_t start[kColumns + 1] = {};

    Columns(const Suppression& of, int64_t kept, bool measured)
        : slots(of.scratch.slots),
          kept(kept),
          sorted(measured && kept >= kFrom && of.boxes.m >= 2 * (kFewKept + kSlotPad)) {
      if (!sorted) return;
      axis = of.grid.columns(kColumns);
      const Slots<T> by_rank = slots;
      const int64_t behind = kFewKept + kSlotPad;
      slots = {slots.x1 + behind, slots.y1 + behind, slots.x2 + behind, slots.y2 + behind,
               slots.area + behind};
      auto column = [&](int64_t k) { return column_of(centre(by_rank.x1[k], by_rank.x2[k])); };
      for (int64_t k = 0; k < kept; ++k) ++start[column(k)];
      for (int32_t c = 0, before = 0; c <= kColumns; ++c) {
        const int32_t count = int32_t(start[c]);
        start[c] = uint32_t(before);
        before += count;
      }
      // `start` runs ahead while columns fill, and ends one column late
      for (int64_t k = 0; k < kept; ++k) slots.put(start[column(k)]++, by_rank[k]);
      memmove(start + 1, start, kColumns * sizeof(uint32_t));
      start[0] = 0;
      slots.clear(kept, width);
    }
    DETCORE_HD int32_t column_of(T x) const { return int32_t(axis.cell(x)) & (kColumns - 1); }

    DETCORE_HD bool suppress(const Suppression& of, const Box<T>& b) const {
      if (!sorted) return slots.suppress(b, 0, kept, of.decision);
      const T x = centre(b.x1, b.x2), dx = of.grid.across.reach(x, b.width(), of.decision.below);
      const int32_t c0 = int32_t(axis.cell(x - dx)), c1 = int32_t(axis.cell(x + dx));
      if (c1 - c0 >= kColumns - 1) return slots.suppress(b, 0, kept, of.decision);
      const int32_t first = c0 & (kColumns - 1), last = c1 & (kColumns - 1);
      if (first <= last) return slots.suppress(b, start[first], start[last + 1], of.decision);
      return slots.suppress(b, start[first], kept, of.decision) ||
             slots.suppress(b, 0, start[last + 1], of.decision);
    }
  };

  void keep_if_free_of(const Slots<T>& slots, int64_t i, int64_t& kept) {
    const Box<T> b = boxes[i];
    const bool overlaps = has_area(b);
    alive[i] = !overlaps || !slots.suppress(b, 0, kept, decision);
    if (!alive[i] || !overlaps) return;
    slots.put(kept++, b);
    if (kept % width == 0) slots.clear(kept, width);
  }

  // Do boxes overlap so much that a list of the pairs would be long? A sample tells: of about
  // n / 8 vector tests, where a list of kPairsABox a box would show some eight pairs.
  bool many_overlap() const {
    const Slots<T>& slots = scratch.slots;
    int64_t sample = 64;
    while (sample * sample < 4 * boxes.m) sample += 16;
    sample = at_most(boxes.m, sample);
    for (int64_t k = 0; k < sample; ++k) slots.put(k, boxes[k * boxes.m / sample]);
    slots.clear(sample, width);
    int64_t found = 0;
    for (int64_t k = 0; k < sample; ++k) {
      const Box<T> b = slots[k];
      const Box<Lanes<T>> wide{b.x1, b.y1, b.x2, b.y2};
      for (int64_t i = k + 1; i < sample; i += width)
        found += __builtin_popcount(slots.overlapping(i, wide, b.area(), decision));
    }
    return 2 * found * boxes.m > kPairsABox * sample * sample;
  }

  // Lists the pairs above the threshold. Each is met from the box that stands first in the grid's
  // order. False if a block's piece of the list is full.
  bool list_pairs() {
    grid.file(boxes, T(0.25), T(1), executor);
    uint32_t* start = grid.start;
    int64_t filed = 0;
    // `start` runs ahead while cells fill, and ends one cell late
    for (int64_t i = 0; i < boxes.m; ++i)
      if (grid.cell[i] >= 0) scratch.slot_rank[start[grid.cell[i]]++] = int32_t(i), ++filed;
    const int64_t cells = grid.cells();
    memmove(start + 1, start, cells * sizeof(uint32_t));
    start[0] = 0;
    parallel_for(executor, filed, kBriefGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) scratch.slots.put(i, boxes[scratch.slot_rank[i]]);
    });
    scratch.slots.clear(filed, width);
    blocks = divide_up(filed, kPairBlock);
    parallel_for(executor, blocks, kParallelFrom / kPairBlock, [&](int64_t begin, int64_t end) {
      for (int64_t block = begin; block < end; ++block) {
        const int64_t first = block * kPairBlock, last = at_most(filed, first + kPairBlock);
        scratch.pair_count[block] = list_block(first, last);
      }
    });
    for (int64_t block = 0; block < blocks; ++block)
      if (scratch.pair_count[block] < 0) return false;
    return true;
  }

  // Where the boxes of a block look for partners: from their own row grid.down.
  struct Search {
    static constexpr int64_t padded = kPairBlock + width;
    int32_t row[padded], row1[padded], column0[padded], column1[padded];

    DETCORE_HD void fill(const Suppression& of, int64_t i, int64_t k) {
      const Slots<T>& slots = of.scratch.slots;
      const T t = of.decision.below;
      const Lanes<T> x1 = Lanes<T>::load(slots.x1 + i), x2 = Lanes<T>::load(slots.x2 + i);
      const Lanes<T> y1 = Lanes<T>::load(slots.y1 + i), y2 = Lanes<T>::load(slots.y2 + i);
      const Lanes<T> x = centre(x1, x2), y = centre(y1, y2);
      const Lanes<T> dx = of.grid.across.reach(x, x2 - x1, t),
                     dy = of.grid.down.reach(y, y2 - y1, t);
      store_whole(of.grid.down.cell(y), row + k), store_whole(of.grid.down.cell(y + dy), row1 + k);
      store_whole(of.grid.across.cell(x - dx), column0 + k);
      store_whole(of.grid.across.cell(x + dx), column1 + k);
    }
  };

  struct PairList {
    static constexpr int64_t kChunks = 1024;
    const Suppression& of;
    OverlappingPair* out;
    int64_t room, count = 0, chunks = 0;
    bool overflow = false;
    uint64_t chunk[kChunks + 4];  // a box's slot, and the first of `width` to compare it with
    uint32_t verdict[kChunks];

    PairList(const Suppression& of, OverlappingPair* out, int64_t room)
        : of(of), out(out), room(room) {}

    DETCORE_HD void look(int64_t i, int64_t begin, int64_t end) {
      if (end - begin > 4 * width) return look_far(i, begin, end);
      for (int k = 0; k < 4; ++k) chunk[chunks + k] = packed(i, begin) + packed(0, k * width);
      chunks += (end - begin + width - 1) / width;
      if (chunks > kChunks - 4) flush();
    }
    __attribute__((noinline)) void look_far(int64_t i, int64_t begin, int64_t end) {
      for (; begin < end; begin += width) {
        chunk[chunks++] = packed(i, begin);
        if (chunks > kChunks - 4) flush();
      }
    }
    DETCORE_HD static uint64_t packed(int64_t i, int64_t first) {
      return uint64_t(i) << 32 | uint64_t(first);
    }
    __attribute__((noinline)) void flush() {
      const Slots<T>& slots = of.scratch.slots;
      for (int64_t k = 0; k < chunks; ++k)
        verdict[k] = slots.candidates(uint32_t(chunk[k]), chunk[k] >> 32, of.decision);
      for (int64_t k = 0; k < chunks; ++k)
        for (uint32_t bits = verdict[k]; bits; bits &= bits - 1)
          add(chunk[k] >> 32, uint32_t(chunk[k]) + __builtin_ctz(bits));
      chunks = 0;
    }
    void add(int64_t i, int64_t j) {
      if (i == j || !of.decision.of(of.scratch.slots[i], of.scratch.slots[j])) return;
      if (count == room) overflow = true;
      if (overflow) return;
      const int32_t a = of.scratch.slot_rank[i], b = of.scratch.slot_rank[j];
      out[count++] = a < b ? OverlappingPair{a, b} : OverlappingPair{b, a};
    }
  };

  // How many pairs the slots in [first, last) list; -1 if too many. Three plain loops instead of
  // one that branches: where each box must look, what overlaps there, which pairs that makes. Loops
  // of one or two rounds a box cost more in mispredicted branches than in arithmetic.
  int32_t list_block(int64_t first, int64_t last) const {
    Search search;
    for (int64_t i = first; i < last; i += width) search.fill(*this, i, i - first);
    PairList list{*this, scratch.pairs + kPairsABox * first, kPairsABox * (last - first)};
    const int32_t last_column = grid.across.count - 1, last_row = grid.down.count - 1;
    for (int64_t i = first; i < last; ++i) {
      const int64_t k = i - first;
      const int32_t row = search.row[k], row1 = search.row1[k];
      const int32_t c0 = search.column0[k], c1 = search.column1[k];
      const uint32_t* start = grid.start + int64_t(row & last_row) * grid.across.count;
      if ((c0 & ~last_column) != (c1 & ~last_column) || row1 - row > last_row) {
        look_around(list, i, search, k);  // the grid repeats within reach
      } else {
        list.look(i, i + 1, start[(c1 & last_column) + 1]);
        // most boxes reach one row below their own, and guessing which costs more than looking
        const int32_t next = (row + 1) & last_row, reached = row1 > row;
        start = grid.start + int64_t(next) * grid.across.count;
        const int64_t begin = start[c0 & last_column];
        list.look(i, begin, reached ? start[(c1 & last_column) + 1] : begin);
        for (int32_t below = row + 2; below <= row1; ++below) {
          start = grid.start + int64_t(below & last_row) * grid.across.count;
          list.look(i, start[c0 & last_column], start[(c1 & last_column) + 1]);
        }
      }
      if (list.overflow) return -1;
    }
    list.flush();
    return list.overflow ? -1 : int32_t(list.count);
  }

  void look_around(PairList& list, int64_t i, const Search& search, int64_t k) const {
    const int32_t row = search.row[k], column1 = search.column1[k];
    auto look = [&](int64_t c0, int64_t c1) {
      list.look(i, grid.start[c0], grid.start[c1 + 1]);
      return false;
    };
    // its own row too as a whole: a pair met twice is harmless
    grid.any_range(row, search.row1[k], search.column0[k], column1, look);
  }

  // Best first: a box that is still alive strikes out what it overlaps.
  void resolve_pairs() {
    int32_t *head = scratch.head, *next = scratch.next;
    memset(head, 0xff, boxes.m * sizeof(int32_t));
    memset(alive, 1, boxes.m);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = kPairsABox * kPairBlock * block;
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
    grid.file(boxes, T(0.5), T(0.5), executor);
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
    if (alive[i] && c >= 0) scratch.slots.put(grid.start[c] + scratch.kept[c]++, boxes[i]);
  }
  bool suppressed_nearby(const Box<T>& b) const {
    const T t = decision.below;
    const T x = centre(b.x1, b.x2), y = centre(b.y1, b.y2);
    const T dx = grid.across.reach(x, b.width(), t), dy = grid.down.reach(y, b.height(), t);
    auto suppressed = [&](int64_t c0, int64_t c1) {
      // where cells are many and small, slots not yet filled cost less than the cells
      const int64_t begin = grid.start[c0], end = grid.start[c1 + 1];
      if (end - begin <= width * (c1 - c0)) return scratch.slots.suppress(b, begin, end, decision);
      for (int64_t c = c0; c <= c1; ++c)
        if (scratch.slots.suppress(b, grid.start[c], grid.start[c] + scratch.kept[c], decision))
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
