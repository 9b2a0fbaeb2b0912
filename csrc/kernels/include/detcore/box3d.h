// Boxes in space, and what of them the kernels of rotated boxes (rotated_box.h) share with those of
// images. A box is x, y, z, dx, dy, dz, yaw: its centre, its sides, and the angle about the z axis,
// which points up:
//
//   y |   / dx       From above, x points right and y up, and yaw turns dx from the x axis
//     |  / yaw       counter-clockwise, in radians. So dx lies along (cos yaw, sin yaw): the same
//     +-------- x    rectangle as a rotated box of these numbers whose angle is -yaw.
//
// Two boxes share the area of these rectangles' intersection times the length of z that they share.
#pragma once

#include "detcore/core.h"
#include "detcore/rotated_box.h"

namespace detcore {

// What the numbers of a box are, and which IoU is meant.
enum class RotatedKind : int8_t {
  image,       // [5] centre, width, height, angle in degrees, as in rotated_box.h
  from_above,  // [7] a box in space, of which only the rectangle seen from above is compared
  in_space,    // [7]
};

constexpr int numbers_of(RotatedKind kind) { return kind == RotatedKind::image ? 5 : 7; }

inline namespace DETCORE_ISA {

template <class T, class D>
struct Box3d {
  RotatedBox<T, D> base;  // the rectangle seen from above
  T z, height;            // centre; dz, 0 if it is not positive, NaN if some number is not finite
  DETCORE_HD T volume() const { return base.area * height; }
};

// A number that is not finite, whichever it is, makes the rectangle's area and reach NaN.
template <class T>
DETCORE_HD RotatedBox<T, double> measure_from_above(T x, T y, T z, T dx, T dy, T dz, T yaw) {
  double sine, cosine;
  sin_cos_of_radians(double(yaw), sine, cosine);
  const T nothing = (x - x) + (y - y) + (z - z) + (dx - dx) + (dy - dy) + (dz - dz) + (yaw - yaw);
  return measure_turned(x, y, dx, dy, -sine, cosine, nothing);
}

template <class T>
DETCORE_HD Box3d<T, double> measure_in_space(T x, T y, T z, T dx, T dy, T dz, T yaw) {
  Box3d<T, double> box;
  box.base = measure_from_above(x, y, z, dx, dy, dz, yaw);
  box.z = z, box.height = (dz > T(0) ? dz : T(0)) + (box.base.area - box.base.area);
  return box;
}

template <class T>
DETCORE_HD Box<T> box_around(const Box3d<T, double>& b) {
  return box_around(b.base);
}

// The length of z that both boxes reach over. Not positive if they are apart. It is taken from the
// distance of the centres, since the ends of boxes far from z = 0 would lose digits.
template <class T, class D>
DETCORE_HD T shared_z(const Box3d<T, D>& a, const Box3d<T, D>& b) {
  const T up = a.z - b.z, apart = lane_max(up, T(0) - up);
  return lane_min(lane_min(a.height, b.height), T(0.5) * (a.height + b.height) - apart);
}

// A cheap test: true only if the boxes share no volume.
template <class T, class D>
DETCORE_HD auto are_apart(const Box3d<T, D>& a, const Box3d<T, D>& b) {
  const T up = a.z - b.z;
  return are_apart(a.base, b.base) | (lane_max(up, T(0) - up) > T(0.5) * (a.height + b.height));
}

// IoU of two boxes in space, the same to the last bit for (a, b) and (b, a). 0 for boxes without
// volume.
template <class T, class D>
DETCORE_HD T rotated_overlap(const Box3d<T, D>& a, const Box3d<T, D>& b) {
  const T inter = shared_area(a.base, b.base) * lane_max(shared_z(a, b), T(0));
  return iou_of_areas(a.volume(), b.volume(), inter);
}

// Whether a point is in a box or on its border, in double for all T. Boxes without volume, and
// those with a number that is not finite, hold nothing.
template <class T>
DETCORE_HD bool holds(const Box3d<T, double>& b, T x, T y, T z) {
  const double dx = double(x) - double(b.base.x), dy = double(y) - double(b.base.y);
  const double u = ::fabs(dx * b.base.cosine - dy * b.base.sine);
  const double v = ::fabs(dx * b.base.sine + dy * b.base.cosine);
  const double up = ::fabs(double(z) - double(b.z));
  return (b.base.area > T(0)) & (b.height > T(0)) & (u <= double(b.base.half_w)) &
         (v <= double(b.base.half_h)) & (up <= 0.5 * double(b.height));
}

template <class T>
struct Box3dGrad {
  RotatedGrad<T> base;
  T z, height;
};

// Adds the gradient of the IoU of `own` with `other`, times g, with respect to `own`.
template <class T, class D>
DETCORE_HD void rotated_overlap_backward(const Box3d<T, D>& own, const Box3d<T, D>& other, T g,
                                         Box3dGrad<T>& sum) {
  const Inside<T> in = part_inside(other.base, own.base);
  const T zero(0), half(0.5), shared = lane_max(shared_z(own, other), zero);
  const T inter = in.area * shared;
  const IouGrad<T> of_volume(g, own.volume(), other.volume(), inter);
  IouGrad<T> of_area = of_volume;
  of_area.inter = of_volume.inter * shared, of_area.own = of_volume.own * own.height;
  const T nan_or_0 = zero * (own.base.area + other.base.area);
  const auto overlap = inter > zero;
  add_area_gradient(own.base, in, of_area, overlap, nan_or_0, sum.base);
  // How much of the shared length's ends are own's: 1, or a half where both boxes end.
  const T up = own.z - other.z, more = half * (own.height - other.height);
  const T top = share_if_greater(zero - more, up), bottom = share_if_greater(up, more);
  const T g_shared = of_volume.inter * in.area;
  sum.z = sum.z + lane_select(overlap, g_shared * (top - bottom), nan_or_0);
  sum.height =
      sum.height + lane_select(overlap,
                               g_shared * (half * (top + bottom)) + of_volume.own * own.base.area,
                               nan_or_0);
}

// --- what a kernel of either geometry is made of -------------------------------------------------

// Of images, or from above.
struct InPlane {
  template <class T, class D>
  using Measured = RotatedBox<T, D>;
  template <class T>
  using Grad = RotatedGrad<T>;
};
struct InSpace {
  template <class T, class D>
  using Measured = Box3d<T, D>;
  template <class T>
  using Grad = Box3dGrad<T>;
};

// Calls f(InPlane{}) or f(InSpace{}).
template <class F>
Status with_geometry(RotatedKind kind, F&& f) {
  return kind == RotatedKind::in_space ? f(InSpace{}) : f(InPlane{});
}

// Measures the box at b. `load` gives a number of the storage type S as T.
template <class T, class S, class F>
DETCORE_HD RotatedBox<T, double> measure_box(InPlane, RotatedKind kind, const S* b, const F& load) {
  if (kind == RotatedKind::image)
    return measure_rotated<T>(load(b[0]), load(b[1]), load(b[2]), load(b[3]), load(b[4]));
  return measure_from_above<T>(load(b[0]), load(b[1]), load(b[2]), load(b[3]), load(b[4]),
                               load(b[5]), load(b[6]));
}
template <class T, class S, class F>
DETCORE_HD Box3d<T, double> measure_box(InSpace, RotatedKind, const S* b, const F& load) {
  return measure_in_space<T>(load(b[0]), load(b[1]), load(b[2]), load(b[3]), load(b[4]), load(b[5]),
                             load(b[6]));
}

// Calls f(number of a, the same number of b) for all numbers of two gradients.
template <class A, class B, class F>
DETCORE_HD void each_number(RotatedGrad<A>& a, const RotatedGrad<B>& b, const F& f) {
  f(a.x, b.x), f(a.y, b.y), f(a.w, b.w), f(a.h, b.h), f(a.angle, b.angle);
}
template <class A, class B, class F>
DETCORE_HD void each_number(Box3dGrad<A>& a, const Box3dGrad<B>& b, const F& f) {
  each_number(a.base, b.base, f);
  f(a.z, b.z), f(a.height, b.height);
}

// The gradient of yaw in radians, from that of the angle in degrees.
template <class T>
DETCORE_HD T yaw_gradient(T angle) {
  return angle * T(-57.295779513082320877);
}

// Writes a gradient as the numbers of a box stand.
template <class T, class U>
DETCORE_HD void store_gradient(RotatedKind kind, const RotatedGrad<T>& g, U* to) {
  to[0] = U(g.x), to[1] = U(g.y);
  if (kind == RotatedKind::image) {
    to[2] = U(g.w), to[3] = U(g.h), to[4] = U(g.angle);
  } else {
    to[2] = U(0), to[3] = U(g.w), to[4] = U(g.h), to[5] = U(0), to[6] = U(yaw_gradient(g.angle));
  }
}
template <class T, class U>
DETCORE_HD void store_gradient(RotatedKind, const Box3dGrad<T>& g, U* to) {
  to[0] = U(g.base.x), to[1] = U(g.base.y), to[2] = U(g.z), to[3] = U(g.base.w);
  to[4] = U(g.base.h), to[5] = U(g.height), to[6] = U(yaw_gradient(g.base.angle));
}

}  // namespace DETCORE_ISA
}  // namespace detcore
