// Vectors of boxes, one vector per coordinate: loading, storing and the test for overlap.
#pragma once

#include "detcore/dispatch.h"
#include "simd_shuffle.h"

namespace detcore {
inline namespace DETCORE_ISA {

template <class S>
DETCORE_HD Box<arithmetic_t<S>> load_box(const S* p) {
  return {widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])};
}

template <class S>
DETCORE_HD void store_box(S* p, const Box<arithmetic_t<S>>& b) {
  narrow(b.x1, p[0]), narrow(b.y1, p[1]), narrow(b.x2, p[2]), narrow(b.y2, p[3]);
}

// Converts `width` consecutive boxes to one vector per coordinate. simd.h has faster versions for
// float.
template <class S>
DETCORE_HD Box<Lanes<arithmetic_t<S>>> corners_of(const S* p) {
  using T = arithmetic_t<S>;
  constexpr int width = Lanes<T>::width;
  const Lanes<T> a = load_lanes(p), b = load_lanes(p + width);
  const Lanes<T> c = load_lanes(p + 2 * width), d = load_lanes(p + 3 * width);
  const Lanes<T> x_low = even_lanes(a, b), y_low = odd_lanes(a, b);
  const Lanes<T> x_high = even_lanes(c, d), y_high = odd_lanes(c, d);
  return {even_lanes(x_low, x_high), even_lanes(y_low, y_high), odd_lanes(x_low, x_high),
          odd_lanes(y_low, y_high)};
}

template <class S>
DETCORE_HD void store_corners(const Box<Lanes<arithmetic_t<S>>>& boxes, S* p) {
  using T = arithmetic_t<S>;
  constexpr int width = Lanes<T>::width;
  const Lanes<T> x_low = zip_low(boxes.x1, boxes.x2), x_high = zip_high(boxes.x1, boxes.x2);
  const Lanes<T> y_low = zip_low(boxes.y1, boxes.y2), y_high = zip_high(boxes.y1, boxes.y2);
  store_lanes(zip_low(x_low, y_low), p), store_lanes(zip_high(x_low, y_low), p + width);
  store_lanes(zip_low(x_high, y_high), p + 2 * width);
  store_lanes(zip_high(x_high, y_high), p + 3 * width);
}

// Loads `count` <= width consecutive boxes, one vector per coordinate. The other lanes are zero.
template <class S, class T = arithmetic_t<S>>
DETCORE_HD Box<Lanes<T>> load_boxes(const S* p, int64_t count = Lanes<T>::width) {
  constexpr int width = Lanes<T>::width;
  S padded[4 * width];
  if (count < width) {
    memset(padded, 0, sizeof padded);
    memcpy(padded, p, 4 * count * sizeof(S));
    p = padded;
  }
  return corners_of(p);
}

template <class S, class T = arithmetic_t<S>>
DETCORE_HD void store_boxes(const Box<Lanes<T>>& boxes, S* p, int64_t count = Lanes<T>::width) {
  constexpr int width = Lanes<T>::width;
  S padded[4 * width];
  store_corners(boxes, count < width ? padded : p);
  if (count < width) memcpy(p, padded, 4 * count * sizeof(S));
}

// One box in all lanes.
template <class T>
DETCORE_HD Box<Lanes<T>> in_all_lanes(const Box<T>& b) {
  return {b.x1, b.y1, b.x2, b.y2};
}

template <class T>
DETCORE_HD T centre(T low, T high) {
  return T(0.5f) * low + T(0.5f) * high;
}

// Which pairs of boxes overlap. The intersection of the other pairs is 0, so no product is needed.
template <class T>
DETCORE_HD Mask<T> overlapping(const Box<Lanes<T>>& a, const Box<Lanes<T>>& b) {
  return lane_min(shared_width(a, b), shared_height(a, b)) > Lanes<T>(T(0));
}

}  // namespace DETCORE_ISA
}  // namespace detcore
