// Lists all pairs of boxes above the threshold. The boxes are sorted by the cells of a grid, and
// each is compared with the boxes after it, as far as search_radius() reaches.
#pragma once

#include "box_grid.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // as in box_grid.h

constexpr int64_t kPairBlock = 512;  // boxes per part of the list

// The ranks of a pair above the threshold.
struct OverlappingPair {
  int32_t better, worse;
};

// The read-only data of all blocks.
template <class T>
class PairFinder {
 public:
  PairFinder(const BoxGrid<T>& grid, const BoxSlots<T>& slots, const int32_t* slot_rank,
             const NmsDecision<T>& decision)
      : grid(grid), slots(slots), slot_rank(slot_rank), decision(decision) {}

  // Writes the pairs whose first box is in the slots [first, last), which are at most kPairBlock,
  // and returns their number, or -1 if there are more than `room`.
  //
  // Three plain loops compute where each box must search, which boxes overlap there, and the pairs.
  // One nested loop would have one or two rounds per box, and cost more in mispredicted branches
  // than in arithmetic.
  int32_t list(int64_t first, int64_t last, OverlappingPair* out, int64_t room) const {
    SearchAreas areas;
    for (int64_t i = first; i < last; i += width) areas.fill(*this, i, i - first);
    PairList pairs{*this, out, room};
    const int32_t last_column = grid.across.count - 1, last_row = grid.down.count - 1;
    for (int64_t i = first; i < last; ++i) {
      const int64_t k = i - first;
      const int32_t row = areas.row[k], row1 = areas.row1[k];
      const int32_t c0 = areas.column0[k], c1 = areas.column1[k];
      const uint32_t* start = grid.cell_start + int64_t(row & last_row) * grid.across.count;
      if ((c0 & ~last_column) != (c1 & ~last_column) || row1 - row > last_row) {
        compare_wrapped(pairs, i, areas, k);  // the area wraps around the grid
      } else {
        pairs.compare(i, i + 1, start[(c1 & last_column) + 1]);
        // most boxes reach the next row, so a mispredicted branch costs more than always comparing
        const int32_t next = (row + 1) & last_row, reached = row1 > row;
        start = grid.cell_start + int64_t(next) * grid.across.count;
        const int64_t begin = start[c0 & last_column];
        pairs.compare(i, begin, reached ? start[(c1 & last_column) + 1] : begin);
        for (int32_t below = row + 2; below <= row1; ++below) {
          start = grid.cell_start + int64_t(below & last_row) * grid.across.count;
          pairs.compare(i, start[c0 & last_column], start[(c1 & last_column) + 1]);
        }
      }
      if (pairs.overflow) return -1;
    }
    pairs.flush();
    return pairs.overflow ? -1 : int32_t(pairs.count);
  }

 private:
  static constexpr int width = Lanes<T>::width;
  const BoxGrid<T> grid;
  const BoxSlots<T> slots;
  const int32_t* slot_rank;
  const NmsDecision<T> decision;

  // The areas in which the boxes of a block search: their own row and those below.
  struct SearchAreas {
    static constexpr int64_t padded = kPairBlock + width;
    int32_t row[padded], row1[padded], column0[padded], column1[padded];

    // Computes the areas k, k + 1, ... of the boxes in the slots from i on.
    DETCORE_HD void fill(const PairFinder& of, int64_t i, int64_t k) {
      const T t = of.decision.below;
      const Box<Lanes<T>> b = of.slots.lanes(i);
      const Lanes<T> x = centre(b.x1, b.x2), y = centre(b.y1, b.y2);
      const Lanes<T> dx = of.grid.across.search_radius(x, b.width(), t);
      const Lanes<T> dy = of.grid.down.search_radius(y, b.height(), t);
      store_whole(of.grid.down.cell(y), row + k), store_whole(of.grid.down.cell(y + dy), row1 + k);
      store_whole(of.grid.across.cell(x - dx), column0 + k);
      store_whole(of.grid.across.cell(x + dx), column1 + k);
    }
  };

  // Collects comparisons, in chunks of `width` slots, until there are enough for a plain loop.
  struct PairList {
    static constexpr int64_t kChunks = 1024;
    const PairFinder& of;
    OverlappingPair* out;
    int64_t room, count = 0, chunks = 0;
    bool overflow = false;
    uint64_t chunk[kChunks + 4];  // a box's slot, and the first of `width` to compare it with
    uint32_t candidates[kChunks];

    PairList(const PairFinder& of, OverlappingPair* out, int64_t room)
        : of(of), out(out), room(room) {}

    // Adds the comparisons of the box in slot i with those in [begin, end).
    DETCORE_HD void compare(int64_t i, int64_t begin, int64_t end) {
      if (end - begin > 4 * width) return compare_many(i, begin, end);
      for (int k = 0; k < 4; ++k) chunk[chunks + k] = packed(i, begin) + packed(0, k * width);
      chunks += (end - begin + width - 1) / width;
      if (chunks > kChunks - 4) flush();
    }
    __attribute__((noinline)) void compare_many(int64_t i, int64_t begin, int64_t end) {
      for (; begin < end; begin += width) {
        chunk[chunks++] = packed(i, begin);
        if (chunks > kChunks - 4) flush();
      }
    }
    DETCORE_HD static uint64_t packed(int64_t i, int64_t first) {
      return uint64_t(i) << 32 | uint64_t(first);
    }
    __attribute__((noinline)) void flush() {
      const BoxSlots<T>& slots = of.slots;
      for (int64_t k = 0; k < chunks; ++k)
        candidates[k] = slots.candidates(uint32_t(chunk[k]), chunk[k] >> 32, of.decision);
      for (int64_t k = 0; k < chunks; ++k)
        for (uint32_t bits = candidates[k]; bits; bits &= bits - 1)
          add(chunk[k] >> 32, uint32_t(chunk[k]) + __builtin_ctz(bits));
      chunks = 0;
    }
    void add(int64_t i, int64_t j) {
      if (i == j || !of.decision(of.slots[i], of.slots[j])) return;
      if (count == room) overflow = true;
      if (overflow) return;
      const int32_t a = of.slot_rank[i], b = of.slot_rank[j];
      out[count++] = a < b ? OverlappingPair{a, b} : OverlappingPair{b, a};
    }
  };

  void compare_wrapped(PairList& pairs, int64_t i, const SearchAreas& areas, int64_t k) const {
    const int32_t row = areas.row[k], column1 = areas.column1[k];
    auto compare = [&](int64_t c0, int64_t c1) {
      pairs.compare(i, grid.cell_start[c0], grid.cell_start[c1 + 1]);
      return false;
    };
    // this includes the whole own row, because finding a pair twice is harmless
    grid.any_range(row, areas.row1[k], areas.column0[k], column1, compare);
  }
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
