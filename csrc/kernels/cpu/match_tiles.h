// Boxes as match_boxes compares them: upright ones and rotated ones, measured, in tiles that fit
// the L1 or L2 cache. Both have the same members:
//
//   Storage, Arithmetic, Stored   types of the input, of comparisons, and of the IoUs that result
//   Tile                          up to `capacity` boxes, with upright boxes around them
//   is_nan, in_all_lanes          of a box in memory
//   iou                           the same bits as in box_iou
//   load, store                   IoUs in memory
#pragma once

#include "box_arrays.h"
#include "rotated_arrays.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// The smallest upright box around all boxes of a tile.
template <class T, class Tile>
Box<Lanes<T>> hull_of(const Tile& tile, int64_t count) {
  const T inf = T(__builtin_inf());
  Box<Lanes<T>> h{inf, inf, -inf, -inf};
  for (int64_t i = 0; i < count; i += Lanes<T>::width) {
    const Box<Lanes<T>> m = tile.around(i);
    h.x1 = lane_min(h.x1, m.x1), h.y1 = lane_min(h.y1, m.y1);
    h.x2 = lane_max(h.x2, m.x2), h.y2 = lane_max(h.y2, m.y2);
  }
  return {lane_least(h.x1), lane_least(h.y1), lane_most(h.x2), lane_most(h.y2)};
}

template <class T>
DETCORE_HD Box<T> overlaps_no_box() {
  const T inf = T(__builtin_inf());
  return {inf, inf, -inf, -inf};
}

template <class S>
struct UprightTiles {
  using Storage = S;
  using Arithmetic = arithmetic_t<S>;
  using Stored = Arithmetic;
  using T = Arithmetic;
  using Wide = MeasuredBox<Lanes<T>>;
  static constexpr int64_t numbers = 4;

  static bool is_nan(const S* box) { return has_nan(load_box(box)); }
  static Wide in_all_lanes(const S* box) {
    return measure<IouKind::iou>(detcore::in_all_lanes(load_box(box)));
  }
  DETCORE_HD static Lanes<T> iou(const Wide& gt, const Wide& anchor) {
    return overlap<IouKind::iou>(gt, anchor, IouEps<Lanes<T>>{T(0), T(0)});
  }
  DETCORE_HD static Lanes<T> load(const T* p, int64_t count) { return Lanes<T>::load(p, count); }
  DETCORE_HD static void store(Lanes<T> x, T* p, int64_t count) { x.store(p, count); }

  // A box with NaN is stored as a box that overlaps nothing.
  template <int64_t capacity>
  struct Tile : BoxTile<IouKind::iou, T, capacity> {
    bool valid[capacity + Lanes<T>::width];  // true if without NaN

    void fill(const S* boxes, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const Box<T> b = load_box(boxes + numbers * i);
        valid[i] = !has_nan(b);
        put(i, valid[i] ? b : overlaps_no_box<T>(), valid[i] ? b.area() : T(0));
      }
      for (int64_t i = count; i < count + Lanes<T>::width; ++i)
        valid[i] = false, put(i, overlaps_no_box<T>(), T(0));
    }
    DETCORE_HD void put(int64_t i, const Box<T>& b, T area) {
      this->x1[i] = b.x1, this->y1[i] = b.y1, this->x2[i] = b.x2, this->y2[i] = b.y2;
      this->size[i] = area;
    }
    DETCORE_HD Box<Lanes<T>> around(int64_t i) const { return this->lanes(i); }
    DETCORE_HD Box<Lanes<T>> around_in_all_lanes(int64_t i) const { return this->in_all_lanes(i); }
  };
};

template <class S>
struct RotatedTiles {
  using Storage = S;
  using Arithmetic = double;
  using Stored = arithmetic_t<S>;
  using L = Lanes<double>;
  using Wide = WideRotatedBox;
  static constexpr int64_t numbers = numbers_of(RotatedKind::image);

  static bool is_nan(const S* box) {
    bool any = false;
    for (int64_t k = 0; k < numbers; ++k) any |= widen(box[k]) != widen(box[k]);
    return any;
  }
  static Wide in_all_lanes(const S* box) { return Tile<1>(box, 1).in_all_lanes(0); }
  DETCORE_HD static L iou(const Wide& gt, const Wide& anchor) {
    return rounded(rotated_overlap(gt, anchor), Stored{});
  }
  DETCORE_HD static L load(const Stored* p, int64_t count) { return load_as_double(p, count); }
  DETCORE_HD static void store(L x, Stored* p, int64_t count) { store_as(x, p, count); }

  // A box with a number that is not finite is stored as a box that overlaps nothing.
  template <int64_t capacity>
  struct Tile {
    static constexpr int64_t padded = capacity + L::width;
    alignas(64) double boxes[10 * padded], corners[4 * padded];
    bool valid[padded];  // true if without NaN

    Tile() = default;
    Tile(const S* from, int64_t count) { fill(from, count); }
    void fill(const S* from, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const auto b = measure_rotated_box(InPlane{}, RotatedKind::image, from, i);
        valid[i] = !is_nan(from + numbers * i);
        const bool finite = b.reach == b.reach;
        put(i, b, finite ? box_around(b) : overlaps_no_box<double>());
      }
      for (int64_t i = count; i < count + L::width; ++i)
        valid[i] = false, put(i, {}, overlaps_no_box<double>());
    }
    RotatedArrays measured() const { return {const_cast<double*>(boxes), padded}; }
    BoxArrays<double> upright() const {
      double* first = const_cast<double*>(corners);
      return {first, first + padded, first + 2 * padded, first + 3 * padded};
    }
    void put(int64_t i, const RotatedBox<double, double>& b, const Box<double>& around) {
      measured().put(i, b), upright().put(i, around);
    }
    DETCORE_HD Wide lanes(int64_t i) const { return measured().lanes(i); }
    DETCORE_HD Wide in_all_lanes(int64_t i) const { return measured().in_all_lanes(i); }
    DETCORE_HD Box<L> around(int64_t i) const { return upright().lanes(i); }
    DETCORE_HD Box<L> around_in_all_lanes(int64_t i) const {
      return detcore::in_all_lanes(upright()[i]);
    }
  };
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
