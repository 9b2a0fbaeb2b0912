// The parts of greedy NMS: a uniform grid over box centres, and the test of one box against many.
#pragma once

#include "box_arrays.h"
#include "detcore/nms_decision.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // private to each file, because each is compiled for several instruction sets

// Minimum of boxes per thread if a box costs only a few nanoseconds: waking a thread takes as long
// as tens of thousands of such boxes.
constexpr int64_t kBriefGrain = 32768;

// Boxes of one class, best first.
template <class T>
struct RankedBoxes : BoxArrays<T> {
  int64_t m;

  RankedBoxes from(int64_t begin, int64_t count) const {
    return {BoxArrays<T>::from(begin), count};
  }
};

// Boxes and their areas, for tests of one box against many: the boxes of a grid, sorted by cell, or
// the kept boxes. Empty slots hold boxes that overlap nothing.
template <class T>
struct BoxSlots : BoxArrays<T> {
  T* area;

  BoxSlots from(int64_t begin) const { return {BoxArrays<T>::from(begin), area + begin}; }
  DETCORE_HD void clear(int64_t begin, int64_t count) const {
    const T inf = T(__builtin_inf());
    for (int64_t i = begin; i < begin + count; ++i)
      BoxArrays<T>::put(i, {inf, inf, -inf, -inf}), area[i] = T(0);
  }
  DETCORE_HD void put(int64_t i, const Box<T>& b) const {
    BoxArrays<T>::put(i, b);
    area[i] = b.area();
  }
  // One bit per lane, from slot `i` on: whether that box and this one are above the threshold.
  DETCORE_HD uint32_t bits_above(int64_t i, const Box<Lanes<T>>& box, Lanes<T> box_area,
                                 const NmsDecision<T>& decision) const {
    const Lanes<T> inter = intersection(this->lanes(i), box);
    const Lanes<T> uni = union_area(Lanes<T>::load(area + i), box_area, inter);
    if (!lane_any(decision.may_be_above(inter, uni))) return 0;
    return lane_bits(decision.is_above(inter, uni));
  }
  // One bit per lane, from slot `i` on: whether that box and the one in slot `box` may be above the
  // threshold. Valid if no area is so small that it lost precision.
  DETCORE_HD uint32_t candidates(int64_t i, int64_t box, const NmsDecision<T>& decision) const {
    const Lanes<T> inter = intersection(this->lanes(i), in_all_lanes((*this)[box]));
    const Lanes<T> uni = union_area(Lanes<T>::load(area + i), Lanes<T>(area[box]), inter);
    return lane_bits(inter > Lanes<T>(decision.strictly_below) * uni);
  }
  // True if this box and one in [begin, end) are above the threshold. The slots right after `end`,
  // up to a full vector, are tested too.
  DETCORE_HD bool any_above(const Box<T>& box, int64_t begin, int64_t end,
                            const NmsDecision<T>& decision) const {
    const Box<Lanes<T>> wide = in_all_lanes(box);
    const Lanes<T> own_area = box.area();
    for (int64_t i = begin; i < end; i += Lanes<T>::width)
      if (bits_above(i, wide, own_area, decision)) return true;
    return false;
  }
};

// One axis of the grid. Its `count` cells (a power of two) repeat along the axis, so distant boxes
// cost nothing and need no cells of their own. Positions map to cells monotonically; all positions
// beyond 2^29 cells map to the last cell.
template <class T>
struct GridAxis {
  T per_cell = T(0);  // 1 / (size of a cell)
  T widest = T(0);    // side of the widest box along this axis
  int32_t count = 1;

  // U is T or Lanes<T>. The caller must still round the result towards zero.
  template <class U>
  DETCORE_HD U cell(U x) const {
    // The difference of two cells must fit 32 bits
    const U limit = T(1 << 29), least = T(-(1 << 29));
    return lane_max(lane_min(x * U(per_cell), limit), least);
  }
  // The maximum distance between x, the centre of a box of width w, and the centre of any box that
  // reaches IoU > t with it. If w' is that box's width and o the overlap along the axis, then IoU
  // <= o / max(w, w'), and the distance is at most (w + w') / 2 - o < (w + w') / 2 - t max(w, w'),
  // with w' <= w / t. The result includes a margin much larger than rounding errors.
  template <class U>
  DETCORE_HD U search_radius(U x, U w, T t) const {
    const T eps = sizeof(T) == 8 ? T(2.3e-16) : T(1.2e-7);
    const U partner = lane_min(U(widest), w * U(T(1.001) / t));
    U r = w * U(T(1) - t);
    if (t < T(0.5)) r = lane_max(r, U(T(0.5)) * w + U(T(0.5) - t) * partner);
    return lane_max(r, U(T(0))) * U(T(1.0001)) + w * U(T(1e-3)) +
           U(T(8) * eps) * (lane_max(x, U(T(0)) - x) + partner);
  }
};

template <class T>
DETCORE_HD bool has_area(const Box<T>& b) {
  return b.width() > T(0) && b.height() > T(0);
}

// The grid of one class's boxes.
template <class T>
struct BoxGrid {
  static constexpr int width = Lanes<T>::width;
  int32_t* cell;  // [m] by rank; -1: overlaps nothing, is in no cell
  // [2 m] prefix sum: number of boxes in the cells before each; then the total
  uint32_t* cell_start;
  GridAxis<T> across, down;

  BoxGrid(int32_t* cell, uint32_t* cell_start) : cell(cell), cell_start(cell_start) {}
  DETCORE_HD int64_t cells() const { return int64_t(across.count) * down.count; }

  // Measures the boxes to size the grid. Returns false if areas are so small that their products
  // lose precision, because search_radius() is not valid then. Areas that overflow are harmless:
  // such boxes overlap nothing in the arithmetic used.
  bool measure(const RankedBoxes<T>& boxes) {
    const T inf = T(__builtin_inf());
    const Lanes<T> zero(T(0));
    Lanes<T> wide = zero, tall = zero, sum_w = zero, sum_h = zero, area = inf;
    Lanes<T> left = inf, top = inf, right = -inf, bottom = -inf;
    for (int64_t i = 0; i < boxes.m; i += width) {
      const int64_t lanes = at_most(width, boxes.m - i);
      const Box<Lanes<T>> b = boxes.lanes(i, lanes);
      const Lanes<T> w = b.width(), h = b.height(), own = w * h;
      // a box with an area of zero or infinity overlaps nothing
      const auto counts = (w > zero) & (h > zero) & (own < Lanes<T>(inf));
      wide = lane_max(wide, lane_select(counts, w, zero));
      tall = lane_max(tall, lane_select(counts, h, zero));
      sum_w = sum_w + lane_select(counts, w, zero), sum_h = sum_h + lane_select(counts, h, zero);
      area = lane_min(area, lane_select(counts, own, Lanes<T>(inf)));
      const Lanes<T> x = centre(b.x1, b.x2), y = centre(b.y1, b.y2);
      left = lane_min(left, lane_select(counts, x, Lanes<T>(inf)));
      top = lane_min(top, lane_select(counts, y, Lanes<T>(inf)));
      right = lane_max(right, lane_select(counts, x, Lanes<T>(-inf)));
      bottom = lane_max(bottom, lane_select(counts, y, Lanes<T>(-inf)));
    }
    if (lane_least(area) < kLeastExactArea<T>) return false;
    across.widest = lane_most(wide), down.widest = lane_most(tall);
    mean_w = lane_sum(sum_w) / T(boxes.m), mean_h = lane_sum(sum_h) / T(boxes.m);
    extent_x = lane_most(right) - lane_least(left);
    extent_y = lane_most(bottom) - lane_least(top);
    return mean_w > T(0) && mean_w < inf && mean_h > T(0) && mean_h < inf;
  }

  // The horizontal axis, divided into `count` cells (a power of two).
  GridAxis<T> columns(int32_t count) const {
    GridAxis<T> axis;
    axis.per_cell = T(count) / (extent_x + mean_w), axis.widest = across.widest, axis.count = count;
    return axis;
  }

  // Computes each box's cell, the histogram of the cells, and its prefix sum. The cells are part_w
  // x part_h of the mean box in size, and fewer than twice the number of boxes.
  void count_boxes(const RankedBoxes<T>& boxes, T part_w, T part_h, const Executor& executor) {
    across.per_cell = T(1) / (part_w * mean_w), down.per_cell = T(1) / (part_h * mean_h);
    const T columns = extent_x * across.per_cell + T(1), rows = extent_y * down.per_cell + T(1);
    across.count = down.count = 1;
    while (T(across.count) < columns && across.count <= boxes.m) across.count *= 2;
    while (T(down.count) < rows && down.count <= boxes.m) down.count *= 2;
    while (int64_t(across.count) * down.count >= 2 * boxes.m)
      (across.count > down.count ? across : down).count /= 2;
    parallel_for(executor, boxes.m, kBriefGrain, [&](int64_t begin, int64_t end) {
      const T inf = T(__builtin_inf());
      for (int64_t i = begin; i < end; ++i) {
        const Box<T> b = boxes[i];
        const int32_t at = cell_at(int32_t(down.cell(centre(b.y1, b.y2))),
                                   int32_t(across.cell(centre(b.x1, b.x2))));
        cell[i] = has_area(b) & (b.area() < inf) ? at : -1;
      }
    });
    const int64_t cells = this->cells();
    memset(cell_start, 0, (cells + 1) * sizeof(uint32_t));
    for (int64_t i = 0; i < boxes.m; ++i) cell_start[cell[i] + 1] += cell[i] >= 0;
    for (int64_t c = 0; c < cells; ++c) cell_start[c + 1] += cell_start[c];
  }
  DETCORE_HD int32_t cell_at(int32_t row, int32_t column) const {
    return (row & (down.count - 1)) * across.count + (column & (across.count - 1));
  }

  // Calls f(first, last) for the ranges of cells in [row, row1] x [column0, column1], until one
  // call returns true. A row that wraps around needs two calls.
  template <class F>
  DETCORE_HD bool any_range(int32_t row, int32_t row1, int32_t column0, int32_t column1,
                            const F& f) const {
    if (row1 - row >= down.count) row1 = row + down.count - 1;
    const int32_t last = across.count - 1;
    const bool whole = column1 - column0 >= last;
    const int32_t c0 = whole ? 0 : column0 & last, c1 = whole ? last : column1 & last;
    for (; row <= row1; ++row) {
      const int64_t line = int64_t(row & (down.count - 1)) * across.count;
      if (c0 <= c1) {
        if (f(line + c0, line + c1)) return true;
      } else if (f(line + c0, line + last) || f(line, line + c1)) {
        return true;
      }
    }
    return false;
  }

 private:
  T mean_w{}, mean_h{}, extent_x{}, extent_y{};
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
