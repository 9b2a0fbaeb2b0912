// The geometry of rotated boxes, for host and device: how much of one lies in another, and the
// derivative of that. The two sides of a box are its width, along u, and its height, along v:
//
//        v          The angle turns u from the x axis, counter-clockwise as the image is seen, so
//   u  \ |          with y pointing down: u = (cosine, -sine), v = (sine, cosine).
//
// Where do two boxes overlap? In the frame of box a its sides lie along the axes, and at each x
// the overlap reaches from b's lower boundary to its upper one, both clamped to a. So its area is
// the sum, over b's edges, of the integral of clamp(y, -half_h, half_h) over x, within a's width.
// An edge is straight, so that its integral has three parts: below a, inside, and above. No list
// of corners is built or sorted, nothing depends on which of two nearly equal numbers is larger,
// and parallel edges, shared corners and equal boxes need no case of their own.
//
// The derivative of the area when a boundary moves is the length of that boundary inside the other
// box, which the same clipping gives.
//
// T is the type of the clipping, and D of sines, cosines and differences of centres: double, since
// half a box 10,000 times as long as wide, turned by the rounding error of a float, leaves the
// other half. Both are scalars, or both are lanes of double.
#pragma once

#include "detcore/box.h"

namespace detcore {
inline namespace DETCORE_ISA {

// Stands for a cosine or sine that is smaller: its reciprocal must be finite, and an edge that is
// so steep or so flat contributes nothing to what it divides.
constexpr double kLeastSine = 1e-20;

constexpr double kRadiansPerDegree = 0.017453292519943295769;

// A box with what every pair needs, computed once per box.
template <class T, class D>
struct RotatedBox {
  T x, y;            // centre, pixels
  D cosine, sine;    // of the angle
  T half_w, half_h;  // half of the sides, 0 for a side that is not positive
  T per_w, per_h;    // one over the sides, 1 if the area is 0
  T area;            // 0 if a side is not positive
  T reach;           // from the centre to a corner; both are NaN if a number is not finite
};

// Sine and cosine of so many quarters of a turn and x radians more, by their series, so that all
// devices agree. x is -pi / 4 to pi / 4.
DETCORE_HD void sin_cos_of_quarters(double quarters, double x, double& sine, double& cosine) {
  const double x2 = x * x;
  double s = 1.0, c = 1.0;
  for (int k = 8; k > 0; --k) {  // the terms beyond x^17 are smaller than a rounding error
    s = 1.0 - x2 / double(2 * k * (2 * k + 1)) * s;
    c = 1.0 - x2 / double(2 * k * (2 * k - 1)) * c;
  }
  s = s * x;
  const double turns = quarters - 4.0 * ::rint(quarters / 4.0);  // -2 to 2
  sine = turns == 0.0 ? s : turns == 1.0 ? c : turns == -1.0 ? -c : -s;
  cosine = turns == 0.0 ? c : turns == 1.0 ? -s : turns == -1.0 ? s : -c;
}

// Multiples of 90 are exact.
DETCORE_HD void sin_cos_of_degrees(double degrees, double& sine, double& cosine) {
  const double quarters = ::rint(degrees / 90.0);
  const double rest = degrees - 90.0 * quarters;  // exact, unless degrees have no fraction anyway
  const bool near = rest >= -45.0 && rest <= 45.0;
  sin_cos_of_quarters(quarters, near ? rest * kRadiansPerDegree : 0.0, sine, cosine);
}

// To the last digits for up to a hundred thousand turns.
DETCORE_HD void sin_cos_of_radians(double radians, double& sine, double& cosine) {
  const double quarters = ::rint(radians * 0.63661977236758134308);
  // a quarter of a turn in two parts, of which the first has so few bits that the product is exact
  const double rest =
      (radians - quarters * 1.57079632673412561417) - quarters * 6.07710050650619224932e-11;
  const bool near = rest >= -0.7854 && rest <= 0.7854;
  sin_cos_of_quarters(quarters, near ? rest : 0.0, sine, cosine);
}

// From centre, sides, and the angle's sine and cosine. `nothing` is 0, or NaN if some number of the
// box is not finite.
template <class T>
DETCORE_HD RotatedBox<T, double> measure_turned(T x, T y, T w, T h, double sine, double cosine,
                                                T nothing) {
  RotatedBox<T, double> box;
  box.x = x, box.y = y, box.cosine = cosine, box.sine = sine;
  const bool whole = w > T(0) && h > T(0);
  box.half_w = w > T(0) ? T(0.5) * w : T(0), box.half_h = h > T(0) ? T(0.5) * h : T(0);
  box.per_w = T(1) / (whole ? w : T(1)), box.per_h = T(1) / (whole ? h : T(1));
  box.area = (whole ? w * h : T(0)) + nothing;
  box.reach =
      T(::sqrt(double(box.half_w) * double(box.half_w) + double(box.half_h) * double(box.half_h))) +
      nothing;
  return box;
}

// From centre, sides and angle in degrees.
template <class T>
DETCORE_HD RotatedBox<T, double> measure_rotated(T x, T y, T w, T h, T degrees) {
  double sine, cosine;
  sin_cos_of_degrees(double(degrees), sine, cosine);
  // anything that is not finite makes this NaN, and otherwise it is 0
  const T nothing = (x - x) + (y - y) + (w - w) + (h - h) + (degrees - degrees);
  return measure_turned(x, y, w, h, sine, cosine, nothing);
}

// The smallest upright box around a rotated one, larger by more than all rounding errors. A point
// if the box has no area, and NaN if a number is not finite.
template <class T>
DETCORE_HD Box<T> box_around(const RotatedBox<T, double>& b) {
  const double slack = sizeof(T) == 8 ? 1e-14 : 3e-7, some = b.area > T(0) ? 1.0 : 0.0;
  const double c = ::fabs(b.cosine), s = ::fabs(b.sine), half_w = b.half_w, half_h = b.half_h;
  const double x = double(b.x) + double(b.area - b.area), y = double(b.y);
  const double w = some * ((half_w * c + half_h * s) * (1.0 + slack) + slack * ::fabs(x));
  const double h = some * ((half_w * s + half_h * c) * (1.0 + slack) + slack * ::fabs(y));
  return {T(x - w), T(y - h), T(x + w), T(y + h)};
}

// Box b as box a sees it: from a's centre, along a's sides.
template <class T>
struct Placement {
  T x, y, cosine, sine;
};

template <class T, class D>
DETCORE_HD Placement<T> place(const RotatedBox<T, D>& a, const RotatedBox<T, D>& b) {
  const D dx = D(b.x) - D(a.x), dy = D(b.y) - D(a.y), one(1.0), zero(0.0);
  D cosine = a.cosine * b.cosine + a.sine * b.sine, sine = b.sine * a.cosine - b.cosine * a.sine;
  // sides that are parallel are so exactly
  cosine = lane_select(sine == zero, lane_select(cosine < zero, zero - one, one), cosine);
  sine = lane_select(cosine == zero, lane_select(sine < zero, zero - one, one), sine);
  return {T(dx * a.cosine - dy * a.sine), T(dx * a.sine + dy * a.cosine), T(cosine), T(sine)};
}

// True if the circles around the boxes are apart: a cheap test before `part_inside`.
template <class T, class D>
DETCORE_HD auto are_apart(const RotatedBox<T, D>& a, const RotatedBox<T, D>& b) {
  const T dx = b.x - a.x, dy = b.y - a.y, reach = a.reach + b.reach;
  // larger than all rounding errors of a float
  return dx * dx + dy * dy > reach * reach * T(1.00001);
}

// An edge of b in the frame of a. `sum` is the integral of its y, clamped to a, over the x within
// a. From `from` to `to`, as fractions of the edge, it lies inside a. `share` is a half if it lies
// on one of a's edges, else 1, so that the derivative of two equal boxes favours neither.
template <class T>
struct ClippedEdge {
  T sum, from, to, share;
  DETCORE_HD T length() const { return (to - from) * share; }
  // the integral of the distance from the edge's centre along the edge; both in lengths of the edge
  DETCORE_HD T moment() const { return length() * (T(0.5) * (from + to) - T(0.5)); }
};

template <class T>
DETCORE_HD T clamp_between(T x, T low, T high) {
  return lane_min(lane_max(x, low), high);
}

// The edge from (x, y) to (x + dx, y + dy); per_dx and per_dy are one over dx and dy.
template <class T>
DETCORE_HD ClippedEdge<T> clip_edge(T x, T y, T dx, T dy, T per_dx, T per_dy, T half_w, T half_h) {
  const T zero(0), one(1), half(0.5);
  const T left = (zero - half_w - x) * per_dx, right = (half_w - x) * per_dx;
  const T low = (zero - half_h - y) * per_dy, high = (half_h - y) * per_dy;
  const T begin = clamp_between(lane_min(left, right), zero, one);
  const T end = clamp_between(lane_max(left, right), zero, one);
  const T enters = clamp_between(lane_min(low, high), begin, end);
  const T leaves = clamp_between(lane_max(low, high), begin, end);
  const T first = lane_select(per_dy > zero, zero - half_h, half_h);  // where it comes from
  const T outside = (enters - begin) - (end - leaves);
  const T within = (leaves - enters) * (y + dy * (half * (enters + leaves)));
  ClippedEdge<T> edge;
  edge.sum = dx * (first * outside + within);

  // an edge that is parallel to one of a's is on one side of it with all of its length
  const auto along = (dy == zero) & (lane_max(y, zero - y) == half_h);
  const auto across = (dx == zero) & (lane_max(x, zero - x) == half_w);
  const T from = lane_select(across, zero, begin), to = lane_select(across, one, end);
  edge.from = lane_select(along, from, clamp_between(lane_min(low, high), from, to));
  edge.to = lane_select(along, to, clamp_between(lane_max(low, high), from, to));
  edge.share = lane_select(along | across, half, one);
  return edge;
}

// What of b lies in a: the area, and b's edges inside, named by where they are along u and v.
template <class T>
struct Inside {
  T area;
  ClippedEdge<T> low_u, high_u, low_v, high_v;
};

// True if one of the boxes' axes separates them. Then the overlap is 0, where the integral would
// leave a rounding error.
template <class T>
DETCORE_HD auto separated(const Placement<T>& b, T a_half_w, T a_half_h, T b_half_w, T b_half_h) {
  const T zero(0);
  const auto size = [&](T v) { return lane_max(v, zero - v); };
  const T cosine = size(b.cosine), sine = size(b.sine);
  const T u = b.x * b.cosine - b.y * b.sine, v = b.x * b.sine + b.y * b.cosine;  // along b's sides
  return (size(b.x) >= a_half_w + (b_half_w * cosine + b_half_h * sine)) |
         (size(b.y) >= a_half_h + (b_half_w * sine + b_half_h * cosine)) |
         (size(u) >= b_half_w + (a_half_w * cosine + a_half_h * sine)) |
         (size(v) >= b_half_h + (a_half_w * sine + a_half_h * cosine));
}

template <class T, class D>
DETCORE_HD Inside<T> part_inside(const RotatedBox<T, D>& a, const RotatedBox<T, D>& b) {
  const Placement<T> at = place(a, b);
  const T zero(0), two(2), least{T(kLeastSine)};
  const T wx = b.half_w * at.cosine, wy = zero - b.half_w * at.sine;
  const T hx = b.half_h * at.sine, hy = b.half_h * at.cosine;
  const T cosine = lane_select(lane_max(at.cosine, zero - at.cosine) > least, at.cosine, least);
  const T sine = lane_select(lane_max(at.sine, zero - at.sine) > least, at.sine, least);
  const T per_cos = T(1) / cosine, per_sin = T(1) / sine;
  const T per_wx = b.per_w * per_cos, per_wy = zero - b.per_w * per_sin;
  const T per_hx = b.per_h * per_sin, per_hy = b.per_h * per_cos;
  const T dwx = two * wx, dwy = two * wy, dhx = two * hx, dhy = two * hy;
  Inside<T> in;
  in.low_v =
      clip_edge<T>(at.x - wx - hx, at.y - wy - hy, dwx, dwy, per_wx, per_wy, a.half_w, a.half_h);
  in.high_v =
      clip_edge<T>(at.x - wx + hx, at.y - wy + hy, dwx, dwy, per_wx, per_wy, a.half_w, a.half_h);
  in.low_u =
      clip_edge<T>(at.x - wx - hx, at.y - wy - hy, dhx, dhy, per_hx, per_hy, a.half_w, a.half_h);
  in.high_u =
      clip_edge<T>(at.x + wx - hx, at.y + wy - hy, dhx, dhy, per_hx, per_hy, a.half_w, a.half_h);
  // rounding must not make more of it than there is; NaN becomes 0
  T area = (in.high_v.sum - in.low_v.sum) + (in.low_u.sum - in.high_u.sum);
  area = lane_min(lane_max(area, zero), lane_min(a.area, b.area));
  const auto apart = are_apart(a, b) | separated(at, a.half_w, a.half_h, b.half_w, b.half_h);
  in.area = lane_select(apart, zero, area);
  return in;
}

// An order of boxes that does not depend on which comes first. Boxes that it finds equal are.
template <class T, class D>
DETCORE_HD auto comes_before(const RotatedBox<T, D>& a, const RotatedBox<T, D>& b) {
  const auto by_turn = (a.cosine < b.cosine) | ((a.cosine == b.cosine) & (a.sine < b.sine));
  return (a.area < b.area) |
         ((a.area == b.area) &
          ((a.half_w < b.half_w) |
           ((a.half_w == b.half_w) &
            ((a.x < b.x) | ((a.x == b.x) & ((a.y < b.y) | ((a.y == b.y) & by_turn)))))));
}

template <class M, class T, class D>
DETCORE_HD RotatedBox<T, D> select_box(M first, const RotatedBox<T, D>& a,
                                       const RotatedBox<T, D>& b) {
  return {lane_select(first, a.x, b.x),           lane_select(first, a.y, b.y),
          lane_select(first, a.cosine, b.cosine), lane_select(first, a.sine, b.sine),
          lane_select(first, a.half_w, b.half_w), lane_select(first, a.half_h, b.half_h),
          lane_select(first, a.per_w, b.per_w),   lane_select(first, a.per_h, b.per_h),
          lane_select(first, a.area, b.area),     lane_select(first, a.reach, b.reach)};
}

// The area of the intersection, the same to the last bit for (a, b) and (b, a): the smaller box is
// the one whose frame is used, which also keeps the rounding errors small.
template <class T, class D>
DETCORE_HD T shared_area(const RotatedBox<T, D>& a, const RotatedBox<T, D>& b) {
  const auto first = comes_before(a, b);
  return part_inside(select_box(first, a, b), select_box(first, b, a)).area;
}

// IoU from the areas (or volumes) of two boxes and their intersection. 0 for boxes without area.
template <class T>
DETCORE_HD T iou_of_areas(T a, T b, T inter) {
  const T iou = lane_select(inter > T(0), inter / union_area(a, b, inter), T(0));
  return iou + T(0) * (a + b);  // NaN stays NaN
}

// IoU of two rotated boxes, as symmetric as the shared area.
template <class T, class D>
DETCORE_HD T rotated_overlap(const RotatedBox<T, D>& a, const RotatedBox<T, D>& b) {
  return iou_of_areas(a.area, b.area, shared_area(a, b));
}

// Gradient with respect to centre, sides and angle in degrees.
template <class T>
struct RotatedGrad {
  T x, y, w, h, angle;
};

// The gradients of an IoU, times g, with respect to the area (or volume) of the intersection, with
// the area of the own box held, and to that area with the intersection held. eps is added to the
// union.
template <class T>
struct IouGrad {
  T inter, own;
  DETCORE_HD IouGrad(T g, T own_area, T other_area, T shared, T eps = T(0)) {
    const T per_union = T(1) / (union_area(own_area, other_area, shared) + eps);
    const T iou = shared * per_union;
    inter = g * (T(1) + iou) * per_union, own = T(0) - g * iou * per_union;
  }
};

// Adds, where `overlap` holds, the gradient with respect to `own`, from those with respect to the
// area of its part inside another box and to its own area. Elsewhere adds nan_or_0.
template <class M, class T, class D>
DETCORE_HD void add_area_gradient(const RotatedBox<T, D>& own, const Inside<T>& in,
                                  const IouGrad<T>& g, M overlap, T nan_or_0, RotatedGrad<T>& sum) {
  const T half(0.5), w = own.half_w + own.half_w, h = own.half_h + own.half_h;
  const T along_u = (in.high_u.length() - in.low_u.length()) * h;
  const T along_v = (in.high_v.length() - in.low_v.length()) * w;
  const T turn = (in.high_u.moment() - in.low_u.moment()) * (h * h) -
                 (in.high_v.moment() - in.low_v.moment()) * (w * w);
  const T cosine = T(own.cosine), sine = T(own.sine);
  const auto add_to = [&](T& to, T value) { to = to + lane_select(overlap, value, nan_or_0); };
  add_to(sum.x, g.inter * (along_u * cosine + along_v * sine));
  add_to(sum.y, g.inter * (along_v * cosine - along_u * sine));
  add_to(sum.w, g.inter * (half * h * (in.high_u.length() + in.low_u.length())) + g.own * h);
  add_to(sum.h, g.inter * (half * w * (in.high_v.length() + in.low_v.length())) + g.own * w);
  add_to(sum.angle, g.inter * turn * T(kRadiansPerDegree));
}

// Adds the gradient of the IoU of `own` with `other`, times g, with respect to `own`.
template <class T, class D>
DETCORE_HD void rotated_overlap_backward(const RotatedBox<T, D>& own, const RotatedBox<T, D>& other,
                                         T g, RotatedGrad<T>& sum) {
  const Inside<T> in = part_inside(other, own);
  add_area_gradient(own, in, IouGrad<T>(g, own.area, other.area, in.area), in.area > T(0),
                    T(0) * (own.area + other.area), sum);
}

}  // namespace DETCORE_ISA
}  // namespace detcore
