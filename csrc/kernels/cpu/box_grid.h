// A uniform grid over box centres, and the test of a box against many: what suppression is made of.
#pragma once

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // no code shared between files: each is compiled for several instruction sets

// Boxes that a thread takes at least where each costs some nanoseconds alone: waking a thread takes
// as long as tens of thousands of them.
constexpr int64_t kBriefGrain = 32768;

// Boxes of one class, best first.
template <class T>
struct RankedBoxes {
  T *x1, *y1, *x2, *y2;  // [m] each
  int64_t m;

  DETCORE_HD Box<T> operator[](int64_t i) const { return {x1[i], y1[i], x2[i], y2[i]}; }
  DETCORE_HD void put(int64_t i, const Box<T>& b) const {
    x1[i] = b.x1, y1[i] = b.y1, x2[i] = b.x2, y2[i] = b.y2;
  }
  RankedBoxes from(int64_t begin, int64_t count) const {
    return {x1 + begin, y1 + begin, x2 + begin, y2 + begin, count};
  }
};

// The decision `double(inter / union) > threshold`, for floats and lanes of them.
template <class T>
struct Decision {
  T below;     // the largest T not above the threshold: q > threshold just when q > below
  T surely;    // inter < surely * union can't reach it, whatever the quotient's rounding
  T strictly;  // nor can inter <= strictly * union, where areas and the product keep their digits

  explicit Decision(double threshold) {
    below = T(threshold);
    if (double(below) > threshold) below = ::nextafterf(float(below), 0.0f);
    surely = below * T(1 - 1e-6);
    strictly = below > T(1e-6) ? surely : T(0);
  }
  DETCORE_HD bool of(const Box<T>& a, const Box<T>& b) const {
    const T inter = intersection(a, b);
    return inter / (a.area() + b.area() - inter) > below;
  }
  // A bit a lane: where the box is above the threshold with the one there.
  DETCORE_HD uint32_t bits(const Box<Lanes<T>>& there, Lanes<T> there_area,
                           const Box<Lanes<T>>& box, Lanes<T> area) const {
    const Lanes<T> inter = intersection(there, box);
    const Lanes<T> uni = there_area + area - inter;
    if (!lane_any(inter >= Lanes<T>(surely) * uni)) return 0;
    return lane_bits(inter / uni > Lanes<T>(below));
  }
};

// Boxes laid out for lanes. Slots not filled hold boxes that overlap nothing.
template <class T>
struct Slots {
  T *x1, *y1, *x2, *y2, *area;

  DETCORE_HD void clear(int64_t begin, int64_t count) const {
    const T inf = T(__builtin_inf());
    for (int64_t i = begin; i < begin + count; ++i)
      x1[i] = y1[i] = inf, x2[i] = y2[i] = -inf, area[i] = T(0);
  }
  DETCORE_HD void put(int64_t i, const Box<T>& b) const {
    x1[i] = b.x1, y1[i] = b.y1, x2[i] = b.x2, y2[i] = b.y2, area[i] = b.area();
  }
  DETCORE_HD Box<T> operator[](int64_t i) const { return {x1[i], y1[i], x2[i], y2[i]}; }
  // Bits of the lanes from `i` on that are above the threshold with this box.
  DETCORE_HD uint32_t overlapping(int64_t i, const Box<Lanes<T>>& box, Lanes<T> box_area,
                                  const Decision<T>& decision) const {
    const Box<Lanes<T>> there{Lanes<T>::load(x1 + i), Lanes<T>::load(y1 + i),
                              Lanes<T>::load(x2 + i), Lanes<T>::load(y2 + i)};
    return decision.bits(there, Lanes<T>::load(area + i), box, box_area);
  }
  // Bits of the lanes from `i` on that may be above the threshold with the box in slot `box`: where
  // no area is so small that it lost digits.
  DETCORE_HD uint32_t candidates(int64_t i, int64_t box, const Decision<T>& decision) const {
    const Box<Lanes<T>> there{Lanes<T>::load(x1 + i), Lanes<T>::load(y1 + i),
                              Lanes<T>::load(x2 + i), Lanes<T>::load(y2 + i)};
    const Box<Lanes<T>> wide{x1[box], y1[box], x2[box], y2[box]};
    const Lanes<T> inter = intersection(there, wide);
    const Lanes<T> uni = Lanes<T>::load(area + i) + Lanes<T>(area[box]) - inter;
    return lane_bits(inter > Lanes<T>(decision.strictly) * uni);
  }
  // Is a box in [begin, end), or one that stands right after it, above the threshold with this one?
  DETCORE_HD bool suppress(const Box<T>& box, int64_t begin, int64_t end,
                           const Decision<T>& decision) const {
    const Box<Lanes<T>> wide{box.x1, box.y1, box.x2, box.y2};
    const Lanes<T> area = box.area();
    for (int64_t i = begin; i < end; i += Lanes<T>::width)
      if (overlapping(i, wide, area, decision)) return true;
    return false;
  }
};

// One axis of the grid. Cells repeat: `count` of them, a power of two, cover the axis again and
// again, so that boxes far away cost nothing and need no cells of their own. Positions map to cells
// monotonically; what lies beyond 2^29 cells shares the last one.
template <class T>
struct GridAxis {
  T per_cell = T(0);  // 1 / size of a cell
  T widest = T(0);    // box on this axis
  int32_t count = 1;

  // U: T, or lanes of it. The result is whole once it is rounded towards zero.
  template <class U>
  DETCORE_HD U cell(U x) const {
    const U limit = T(1 << 29), least = T(-(1 << 29));  // a distance of two cells fits 32 bits
    return lane_max(lane_min(x * U(per_cell), limit), least);
  }
  // How far the centre of a box can be that reaches IoU > t with one of width w at x. With overlap
  // o along the axis, IoU <= o / max(w, w'), and the distance is at most (w + w') / 2 - o <
  // (w + w') / 2 - t max(w, w'), w' <= w / t. Widened by far more than rounding.
  template <class U>
  DETCORE_HD U reach(U x, U w, T t) const {
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
  int32_t* cell;    // [m] by rank; -1: overlaps nothing, stands nowhere
  uint32_t* start;  // [2 m] how many boxes stand in the cells before each, and in all
  GridAxis<T> across, down;

  BoxGrid(int32_t* cell, uint32_t* start) : cell(cell), start(start) {}
  DETCORE_HD int64_t cells() const { return int64_t(across.count) * down.count; }

  // Sizes the grid. False if areas are so small that their products lose digits: `reach` proves
  // nothing then. Areas that overflow are harmless: they overlap nothing in the arithmetic used.
  bool measure(const RankedBoxes<T>& boxes) {
    const T smallest = sizeof(T) == 8 ? T(1e-280) : T(1e-30), inf = T(__builtin_inf());
    const Lanes<T> zero(T(0));
    Lanes<T> wide = zero, tall = zero, sum_w = zero, sum_h = zero, area = inf;
    Lanes<T> left = inf, top = inf, right = -inf, bottom = -inf;
    for (int64_t i = 0; i < boxes.m; i += width) {
      const int64_t lanes = at_most(width, boxes.m - i);
      const Box<Lanes<T>> b{
          Lanes<T>::load(boxes.x1 + i, lanes), Lanes<T>::load(boxes.y1 + i, lanes),
          Lanes<T>::load(boxes.x2 + i, lanes), Lanes<T>::load(boxes.y2 + i, lanes)};
      const Lanes<T> w = b.width(), h = b.height(), own = w * h;
      // a box without area, or with one beyond counting, overlaps nothing
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
    if (lane_least(area) < smallest) return false;
    across.widest = lane_most(wide), down.widest = lane_most(tall);
    mean_w = lane_sum(sum_w) / T(boxes.m), mean_h = lane_sum(sum_h) / T(boxes.m);
    extent_x = lane_most(right) - lane_least(left);
    extent_y = lane_most(bottom) - lane_least(top);
    return mean_w > T(0) && mean_w < inf && mean_h > T(0) && mean_h < inf;
  }

  // The horizontal axis cut into `count` cells, a power of two.
  GridAxis<T> columns(int32_t count) const {
    GridAxis<T> axis;
    axis.per_cell = T(count) / (extent_x + mean_w), axis.widest = across.widest, axis.count = count;
    return axis;
  }

  // Cells of a part of the mean box, fewer of them than twice the boxes; finds each box's.
  void file(const RankedBoxes<T>& boxes, T part_w, T part_h, const Executor& executor) {
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
    memset(start, 0, (cells + 1) * sizeof(uint32_t));
    for (int64_t i = 0; i < boxes.m; ++i) start[cell[i] + 1] += cell[i] >= 0;
    for (int64_t c = 0; c < cells; ++c) start[c + 1] += start[c];
  }
  DETCORE_HD int32_t cell_at(int32_t row, int32_t column) const {
    return (row & (down.count - 1)) * across.count + (column & (across.count - 1));
  }

  // f(first, last) for the ranges of cells in [row, row1] x [column0, column1], till one is true.
  // A row that wraps takes two.
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
