// IoU and GIoU of two rotated boxes for losses, for host and device. GIoU needs the area of the
// convex hull of all eight corners:
//
//   +--------o---+     In the frame of box a its sides lie along the axes. The upright box around
//   |    /   |  \|     both is cut into quadrants at a's centre. In each, a has one corner, and b
//   |  /  +--|-+ o     one edge: from its corner that is farthest along x to the one farthest along
//   o    |  a| |/|     y. The hull leaves a triangle of the quadrant out, less another triangle if
//   |\    +--|-o |     the third of these three corners lies outside of the line between the other
//   +--o-----+---+     two. So the hull is a sum of four terms, without a list of corners.
//
// T and D are as in rotated_box.h.
#pragma once

#include "detcore/dispatch.h"
#include "detcore/rotated_box.h"

namespace detcore {
inline namespace DETCORE_ISA {

template <class T>
struct Point {
  T x, y;
};

template <class M, class T>
DETCORE_HD Point<T> select_point(M first, const Point<T>& a, const Point<T>& b) {
  return {lane_select(first, a.x, b.x), lane_select(first, a.y, b.y)};
}

// The part of the hull in one quadrant, and the derivative of its area when b's corners move.
template <class T>
struct HullPart {
  T area;
  Point<T> by_right, by_top;
};

// `corner` is a's; `right` and `top` are b's, farthest along x and y. All as if this were the
// quadrant where x and y are positive.
template <class T>
DETCORE_HD HullPart<T> hull_in_quadrant(const Point<T>& corner, const Point<T>& right,
                                        const Point<T>& top) {
  const T zero(0), one(1), half(0.5);
  const Point<T> none{zero, zero};
  const auto beside = right.x > corner.x, above = top.y > corner.y;
  const Point<T> from = select_point(beside, right, corner), to = select_point(above, top, corner);
  const Point<T> third =
      select_point(beside, select_point(above, corner, top), select_point(above, right, corner));
  const T dx = from.x - to.x, dy = to.y - from.y;  // never negative
  const T doubled = (third.x - from.x) * dy + (third.y - from.y) * dx;
  const T outside = lane_select(doubled > zero, one, zero);
  HullPart<T> part;
  part.area = from.x * to.y - half * (dx * dy) + half * outside * doubled;

  const Point<T> by_from{half * (from.y + to.y - outside * (to.y - third.y)),
                         half * (dx + outside * (to.x - third.x))};
  const Point<T> by_to{half * (dy - outside * (third.y - from.y)),
                       half * (from.x + to.x + outside * (third.x - from.x))};
  const Point<T> by_third{half * outside * dy, half * outside * dx};
  part.by_right = select_point(beside, by_from, select_point(above, by_third, none));
  part.by_top = select_point(above, by_to, select_point(beside, by_third, none));
  return part;
}

// The area of the hull of a and b, and its derivative with respect to b: to its centre along a's
// sides, its half sides, and a turn in radians.
template <class T>
struct Hull {
  T area, by_x, by_y, by_half_w, by_half_h, by_turn;
};

template <class T, class D>
DETCORE_HD Hull<T> hull_around(const RotatedBox<T, D>& a, const RotatedBox<T, D>& b) {
  const Placement<T> at = place(a, b);
  const T zero(0), one(1), minus(-1);
  const T along = lane_select(at.cosine < zero, minus, one);
  const T across = lane_select(at.sine < zero, minus, one);
  // b's corners farthest along x and y, from its centre; the others are opposite
  const Point<T> w{b.half_w * at.cosine, zero - b.half_w * at.sine};
  const Point<T> h{b.half_h * at.sine, b.half_h * at.cosine};
  const Point<T> right{along * w.x + across * h.x, along * w.y + across * h.y};
  const Point<T> top{along * h.x - across * w.x, along * h.y - across * w.y};

  Hull<T> hull{zero, zero, zero, zero, zero, zero};
  Point<T> by_right{zero, zero}, by_top{zero, zero};
  for (int quadrant = 0; quadrant < 4; ++quadrant) {
    const T x = quadrant % 2 ? minus : one, y = quadrant / 2 ? minus : one, xy = x * y;
    const HullPart<T> part =
        hull_in_quadrant<T>({a.half_w, a.half_h}, {x * at.x + right.x, y * at.y + xy * right.y},
                            {x * at.x + xy * top.x, y * at.y + top.y});
    hull.area = hull.area + part.area;
    hull.by_x = hull.by_x + x * (part.by_right.x + part.by_top.x);
    hull.by_y = hull.by_y + y * (part.by_right.y + part.by_top.y);
    by_right = {by_right.x + part.by_right.x, by_right.y + xy * part.by_right.y};
    by_top = {by_top.x + xy * part.by_top.x, by_top.y + part.by_top.y};
  }
  const Point<T> by_w{along * by_right.x - across * by_top.x,
                      along * by_right.y - across * by_top.y};
  const Point<T> by_h{across * by_right.x + along * by_top.x,
                      across * by_right.y + along * by_top.y};
  hull.by_half_w = by_w.x * at.cosine - by_w.y * at.sine;
  hull.by_half_h = by_h.x * at.sine + by_h.y * at.cosine;
  hull.by_turn =
      (by_right.x * right.y - by_right.y * right.x) + (by_top.x * top.y - by_top.y * top.x);
  return hull;
}

// Calls f(Constant<IouKind, kind>{}) for the kinds that rotated boxes have.
template <class F>
Status with_rotated_kind(IouKind kind, F&& f) {
  switch (kind) {
    case IouKind::iou: return f(Constant<IouKind, IouKind::iou>{});
    case IouKind::giou: return f(Constant<IouKind, IouKind::giou>{});
    default: return {"rotated boxes have IoU and GIoU"};
  }
}

// IoU or GIoU, the same to the last bit for (a, b) and (b, a). eps is added to what divides.
template <IouKind kind, class T, class D>
DETCORE_HD T rotated_pair_overlap(const RotatedBox<T, D>& a, const RotatedBox<T, D>& b, T eps) {
  static_assert(kind == IouKind::iou || kind == IouKind::giou);
  const auto first = comes_before(a, b);
  const RotatedBox<T, D> small = select_box(first, a, b), large = select_box(first, b, a);
  const T zero(0), nan_or_0 = zero * (a.area + b.area);
  const T inter = part_inside(small, large).area, uni = union_area(a.area, b.area, inter);
  const T iou = lane_select(inter > zero, inter / (uni + eps), zero) + nan_or_0;
  if constexpr (kind == IouKind::iou) return iou;
  const T hull = lane_max(hull_around(small, large).area, uni);  // rounding may make it smaller
  return iou - lane_select(hull > zero, (hull - uni) / (hull + eps), zero);
}

// Adds the gradient of rotated_pair_overlap(own, other), times g, with respect to `own`.
template <IouKind kind, class T, class D>
DETCORE_HD void rotated_pair_overlap_backward(const RotatedBox<T, D>& own,
                                              const RotatedBox<T, D>& other, T eps, T g,
                                              RotatedGrad<T>& sum) {
  const T zero(0), one(1), two(2), nan_or_0 = zero * (own.area + other.area);
  const Inside<T> in = part_inside(other, own);
  const auto overlapping = in.area > zero;
  IouGrad<T> of_areas(g, own.area, other.area, in.area, eps);
  if constexpr (kind == IouKind::iou) {
    add_area_gradient(own, in, of_areas, overlapping, nan_or_0, sum);
  } else {  // the part that the hull leaves free is 1 - uni / (hull + eps)
    const Hull<T> hull = hull_around(other, own);
    const auto some = hull.area > zero;
    const T uni = union_area(own.area, other.area, in.area) + eps;
    const T per_hull = lane_select(some, one / (hull.area + eps), zero);
    of_areas.inter = of_areas.inter - g * per_hull;
    add_area_gradient(own, in, of_areas, overlapping, nan_or_0, sum);
    const T by_area = lane_select(own.area > zero, g * per_hull, nan_or_0);
    const T by_hull = nan_or_0 - g * uni * per_hull * per_hull, half(0.5);
    const T wide = lane_select(own.half_w > zero, by_hull, nan_or_0);
    const T high = lane_select(own.half_h > zero, by_hull, nan_or_0);
    const T cosine = T(other.cosine), sine = T(other.sine);
    sum.x = sum.x + by_hull * (hull.by_x * cosine + hull.by_y * sine);
    sum.y = sum.y + by_hull * (hull.by_y * cosine - hull.by_x * sine);
    sum.w = sum.w + wide * (half * hull.by_half_w) + by_area * (two * own.half_h);
    sum.h = sum.h + high * (half * hull.by_half_h) + by_area * (two * own.half_w);
    sum.angle = sum.angle + by_hull * hull.by_turn * T(kRadiansPerDegree);
  }
}

}  // namespace DETCORE_ISA
}  // namespace detcore
