// Greedy NMS among ranked rotated boxes, or boxes in space, of one class:
//
//   for each block of boxes, best first:
//     in parallel: drop each box that an earlier kept one suppresses            grid
//     one by one: keep each box that none of the block's own kept ones does
//     insert these into the grid
//
// Upright boxes around them that meet are only candidates. A vector of candidates is compared at
// once. Boxes in space go the same way, by the upright boxes around what is seen of them from
// above.
#pragma once

#include "box_grid.h"
#include "rotated_arrays.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // as in box_grid.h

using WideDouble = Lanes<double>;

template <class S>
bool all_finite(const S* numbers, int64_t count) {
  bool finite = true;
  for (int64_t k = 0; k < count; ++k) {
    const auto v = widen(numbers[k]);
    finite &= v - v == 0;
  }
  return finite;
}

constexpr int64_t kRotatedGridFrom = 256;  // with fewer boxes, each meets all kept ones
constexpr int64_t kRotatedBlock = 512;
constexpr int64_t kRotatedGrain = 32;    // boxes per thread
constexpr int64_t kRotatedSlotPad = 16;  // slots that may be read past the last, for any lane width

// Kept boxes: the upright boxes around them, and their places among the class's boxes.
struct KeptSlots {
  BoxArrays<double> around;
  int32_t* place;

  static KeptSlots take(Arena& arena, int64_t count) {
    return {BoxArrays<double>::take(arena, count + kRotatedSlotPad), arena.take<int32_t>(count)};
  }
  KeptSlots from(int64_t begin) const { return {around.from(begin), place + begin}; }
  void put(int64_t i, const Box<double>& b, int64_t at) const {
    around.put(i, b);
    place[i] = int32_t(at);
  }
  // One bit per lane, from slot i on: whether that box and this one meet.
  DETCORE_HD uint32_t meeting(int64_t i, int64_t count, const Box<WideDouble>& b) const {
    const Box<WideDouble> o = around.lanes(i);
    const uint32_t bits = lane_bits((o.x1 < b.x2) & (b.x1 < o.x2) & (o.y1 < b.y2) & (b.y1 < o.y2));
    return count < WideDouble::width ? bits & ((1u << count) - 1) : bits;
  }
};

template <class Arrays>
struct RotatedNmsScratch {
  RankedBoxes<double> around;     // [n] upright boxes, by class, then by score
  Arrays boxes;                   // [n] in the same order
  KeptSlots slots;                // [n] by cell
  int32_t* cell;                  // [n]
  uint32_t *cell_start, *filled;  // [2 n + 2]

  RotatedNmsScratch(int64_t n, Arena& arena)
      : around{BoxArrays<double>::take(arena, n + kRotatedSlotPad), n},
        boxes(Arrays::take(arena, n)),
        slots(KeptSlots::take(arena, n)),
        cell(arena.take<int32_t>(n)),
        cell_start(arena.take<uint32_t>(2 * n + 2)),
        filled(arena.take<uint32_t>(2 * n + 2)) {}

  template <class Box>
  void put(int64_t i, const Box& box) const {
    boxes.put(i, box);
    around.put(i, box_around(box));
  }
};

// One class, whose boxes are [begin, begin + m) of the scratch. T is the type that IoUs are rounded
// to.
template <class T, class Arrays>
class RotatedNms {
 public:
  RotatedNms(const RotatedNmsScratch<Arrays>& s, int64_t begin, int64_t m, double threshold,
             bool* alive, const Executor& executor)
      : around(s.around.from(begin, m)),
        boxes(s.boxes.from(begin)),
        slots(s.slots.from(begin)),
        filled(s.filled + 2 * begin),
        threshold(threshold),
        alive(alive),
        executor(executor),
        grid(s.cell + begin, s.cell_start + 2 * begin) {}

  void run() {
    gridded = around.m >= kRotatedGridFrom && grid.measure(around);
    if (gridded) {
      grid.count_boxes(around, 1.0, 1.0, executor);
      memset(filled, 0, grid.cells() * sizeof(uint32_t));
    }
    double own[4][kRotatedBlock + kRotatedSlotPad];
    int32_t place[kRotatedBlock];
    const KeptSlots fresh{{own[0], own[1], own[2], own[3]}, place};
    for (int64_t first = 0; first < around.m; first += kRotatedBlock) {
      const int64_t count = at_most(kRotatedBlock, around.m - first);
      parallel_for(executor, count, kRotatedGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = first + begin; i < first + end; ++i) alive[i] = !suppressed_by_earlier(i);
      });
      int64_t added = 0;
      for (int64_t i = first; i < first + count; ++i) {
        if (!alive[i] || !has_area(around[i])) continue;
        Query query(*this, i);
        alive[i] = !query.suppressed_by(fresh, 0, added) && !query.rest_suppresses();
        if (alive[i]) fresh.put(added++, around[i], i);
      }
      for (int64_t k = 0; k < added; ++k) insert(fresh.around[k], fresh.place[k]);
    }
  }

 private:
  const RankedBoxes<double> around;
  const Arrays boxes;
  const KeptSlots slots;  // by cell, or as they come
  uint32_t* filled;       // slots of each cell
  const double threshold;
  bool* alive;
  const Executor& executor;
  BoxGrid<double> grid;
  bool gridded = false;
  int64_t kept = 0;

  // One box that looks for a kept one that suppresses it.
  struct Query {
    const RotatedNms& of;
    const decltype(boxes.in_all_lanes(0)) own;
    const Box<WideDouble> around;
    int32_t found[2 * WideDouble::width];
    int64_t waiting = 0;

    Query(const RotatedNms& of, int64_t i)
        : of(of), own(of.boxes.in_all_lanes(i)), around(in_all_lanes(of.around[i])) {}

    // Fewer than a vector of candidates may wait, for rest_suppresses().
    bool suppressed_by(const KeptSlots& slots, int64_t begin, int64_t end) {
      for (; begin < end; begin += WideDouble::width) {
        for (uint32_t bits = slots.meeting(begin, end - begin, around); bits; bits &= bits - 1)
          found[waiting++] = slots.place[begin + __builtin_ctz(bits)];
        if (waiting < WideDouble::width) continue;
        if (first_vector_suppresses()) return true;
        waiting -= WideDouble::width;
        for (int64_t k = 0; k < waiting; ++k) found[k] = found[k + WideDouble::width];
      }
      return false;
    }
    bool rest_suppresses() {
      if (waiting == 0) return false;
      for (int64_t k = waiting; k < WideDouble::width; ++k) found[k] = found[0];
      return first_vector_suppresses();
    }
    bool first_vector_suppresses() const {
      double iou[WideDouble::width];
      rotated_overlap(of.boxes.gather(found), own).store(iou);
      bool any = false;
      for (double v : iou) any |= double(T(v)) > of.threshold;
      return any;
    }
  };

  bool suppressed_by_earlier(int64_t i) const {
    const Box<double> b = around[i];
    if (!has_area(b)) return false;
    Query query(*this, i);
    if (!gridded) return query.suppressed_by(slots, 0, kept) || query.rest_suppresses();
    const double x = centre(b.x1, b.x2), y = centre(b.y1, b.y2);
    const double dx = reach(grid.across, b.width()), dy = reach(grid.down, b.height());
    auto suppressed = [&](int64_t c0, int64_t c1) {
      for (int64_t c = c0; c <= c1; ++c)
        if (query.suppressed_by(slots, grid.cell_start[c], grid.cell_start[c] + filled[c]))
          return true;
      return false;
    };
    return grid.any_range(int32_t(grid.down.cell(y - dy)), int32_t(grid.down.cell(y + dy)),
                          int32_t(grid.across.cell(x - dx)), int32_t(grid.across.cell(x + dx)),
                          suppressed) ||
           query.rest_suppresses();
  }

  // The maximum distance, along an axis, between the centre of a box whose upright one has side w
  // and that of one that it may suppress. The part of a rectangle of extent w' that lies within w
  // is at most 2 w / w', so w' <= 2 w / threshold.
  double reach(const GridAxis<double>& axis, double w) const {
    return 0.5 * (w + lane_min(axis.widest, w * (2.001 / threshold))) * 1.0001;
  }

  void insert(const Box<double>& b, int64_t place) {
    if (!gridded) return slots.put(kept++, b, place);
    const int32_t c = grid.cell[place];
    if (c >= 0) slots.put(grid.cell_start[c] + filled[c]++, b, place);
  }
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
