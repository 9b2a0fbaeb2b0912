// The geometry of boxes, for host and device. T is float, double, or a SIMD vector of them
// (cpu/simd.h). Nothing here may be contracted into fused multiply-adds: NMS compares these
// quotients with a threshold, and the result must not depend on the compiler.
#pragma once

#include <math.h>

#include <cstdint>

#if defined(__CUDACC__)
#define DETCORE_HD __host__ __device__ __forceinline__
#else
#define DETCORE_HD inline __attribute__((always_inline))
#endif

// One namespace per instruction set: code inlined for a wide one must never be used by a narrow
// one.
#ifndef DETCORE_ISA
#define DETCORE_ISA generic
#endif

namespace detcore {

enum class IouKind : int8_t { iou, giou, diou, ciou };
enum class BoxFormat : int8_t { xyxy, xywh, cxcywh };

inline namespace DETCORE_ISA {

DETCORE_HD float lane_exp(float x) { return ::expf(x); }
DETCORE_HD double lane_exp(double x) { return ::exp(x); }
DETCORE_HD float lane_log(float x) { return ::logf(x); }
DETCORE_HD double lane_log(double x) { return ::log(x); }
DETCORE_HD float lane_atan(float x) { return ::atanf(x); }
DETCORE_HD double lane_atan(double x) { return ::atan(x); }

DETCORE_HD float lane_max(float a, float b) { return a > b ? a : b; }
DETCORE_HD double lane_max(double a, double b) { return a > b ? a : b; }
DETCORE_HD float lane_min(float a, float b) { return a < b ? a : b; }
DETCORE_HD double lane_min(double a, double b) { return a < b ? a : b; }
DETCORE_HD float lane_select(bool c, float a, float b) { return c ? a : b; }
DETCORE_HD double lane_select(bool c, double a, double b) { return c ? a : b; }

DETCORE_HD bool lane_any(bool c) { return c; }

template <class T>
DETCORE_HD T sigmoid(T x) {
  return T(1) / (T(1) + lane_exp(-x));
}

template <class T>
struct Box {
  T x1, y1, x2, y2;  // pixels
  DETCORE_HD T width() const { return x2 - x1; }
  DETCORE_HD T height() const { return y2 - y1; }
  DETCORE_HD T area() const { return (x2 - x1) * (y2 - y1); }
};

// Tests each coordinate on its own: a test by x - x would also reject infinities, which are valid.
template <class T>
DETCORE_HD bool has_nan(const Box<T>& b) {
  return (b.x1 != b.x1) | (b.y1 != b.y1) | (b.x2 != b.x2) | (b.y2 != b.y2);
}

template <class T>
DETCORE_HD Box<T> to_xyxy(BoxFormat format, T a, T b, T c, T d) {
  if (format == BoxFormat::xywh) return {a, b, a + c, b + d};
  if (format == BoxFormat::cxcywh) {
    T half_w = T(0.5) * c, half_h = T(0.5) * d;
    return {a - half_w, b - half_h, a + half_w, b + half_h};
  }
  return {a, b, c, d};
}

// The sides of the intersection of two boxes. If one is not positive, or NaN, it is empty.
template <class T>
DETCORE_HD T shared_width(const Box<T>& a, const Box<T>& b) {
  return lane_min(a.x2, b.x2) - lane_max(a.x1, b.x1);
}
template <class T>
DETCORE_HD T shared_height(const Box<T>& a, const Box<T>& b) {
  return lane_min(a.y2, b.y2) - lane_max(a.y1, b.y1);
}

// The area of the intersection, which is never NaN: lane_max(NaN, 0) and lane_min(NaN, x) return
// their second argument, so NaN coordinates (and inf - inf of infinite boxes) become 0 or a
// meaningless finite number. The areas of the two boxes are still NaN or infinite then, so with
// union_area() the quotient is NaN or 0, which is above no threshold. Therefore, code that divides
// or compares an intersection must compute the union from both areas, each taken from the same box
// that was intersected. If boxes with NaN were dropped before (has_nan), testing `intersection > 0`
// alone is correct too.
template <class T>
DETCORE_HD T intersection(const Box<T>& a, const Box<T>& b) {
  T w = lane_max(shared_width(a, b), T(0));
  T h = lane_max(shared_height(a, b), T(0));
  return w * h;
}

// The area of the union, from both areas and the intersection. It is NaN or infinite if one of the
// areas is, which makes up for the NaN that intersection() drops. It is 0 for two boxes without
// area, whose IoU is then 0 / 0 = NaN.
template <class T>
DETCORE_HD T union_area(T area_a, T area_b, T inter) {
  return area_a + area_b - inter;
}

// A box with values that every pair needs, computed once per box instead of once per pair.
template <class T>
struct MeasuredBox : Box<T> {
  T size;   // area
  T angle;  // atan(width / height), set for CIoU only
};

template <IouKind kind, class T>
DETCORE_HD MeasuredBox<T> measure(const Box<T>& box) {
  MeasuredBox<T> m;
  static_cast<Box<T>&>(m) = box;
  m.size = box.area();
  m.angle = T(0);
  if constexpr (kind == IouKind::ciou) m.angle = lane_atan(box.width() / box.height());
  return m;
}

// Small numbers added to divisors: `area` to the areas of union and hull, `length` to the squared
// diagonal and in CIoU's weight.
template <class T>
struct IouEps {
  T area, length;
};

constexpr double kInvPiSquared4 = 0.40528473456935108577551785283891;  // 4 / pi^2

// The overlap of two boxes: IoU; GIoU (Rezatofighi et al., CVPR 2019); DIoU and CIoU (Zheng et
// al., AAAI 2020).
template <IouKind kind, class T>
DETCORE_HD T overlap(const MeasuredBox<T>& a, const MeasuredBox<T>& b, const IouEps<T>& eps) {
  T inter = intersection<T>(a, b);
  T uni = union_area(a.size, b.size, inter);
  T iou = inter / (uni + eps.area);
  if (kind == IouKind::iou) return iou;

  T hull_w = lane_max(lane_max(a.x2, b.x2) - lane_min(a.x1, b.x1), T(0));
  T hull_h = lane_max(lane_max(a.y2, b.y2) - lane_min(a.y1, b.y1), T(0));
  if (kind == IouKind::giou) {
    T hull = hull_w * hull_h;
    return iou - (hull - uni) / (hull + eps.area);
  }
  T diagonal = hull_w * hull_w + hull_h * hull_h + eps.length;
  T dx = (a.x1 + a.x2) * T(0.5) - (b.x1 + b.x2) * T(0.5);
  T dy = (a.y1 + a.y2) * T(0.5) - (b.y1 + b.y2) * T(0.5);
  T diou = iou - (dx * dx + dy * dy) / diagonal;
  if (kind == IouKind::diou) return diou;

  T turn = a.angle - b.angle;
  T v = T(kInvPiSquared4) * (turn * turn);
  return diou - v / (T(1) - iou + v + eps.length) * v;
}

// The derivative of max(a, b) with respect to a. It is one half at a tie, as in PyTorch.
template <class T>
DETCORE_HD T share_if_greater(T a, T b) {
  return lane_select(a > b, T(1), lane_select(a == b, T(0.5), T(0)));
}

// The gradients of `overlap` with respect to what it computes from the corners.
template <class T>
struct OverlapGrad {
  T area;            // of either box
  T w, h;            // sides of the intersection
  T hull_w, hull_h;  // sides of the hull
  T dx, dy;          // from one centre to the other, per corner
};

// Adds the gradient of the angle between the diagonals, atan(w / h) of a minus that of b.
template <class T>
DETCORE_HD void turn_backward(const Box<T>& a, const Box<T>& b, T g_turn, Box<T>& da, Box<T>& db) {
  T a_w = a.width(), a_h = a.height(), b_w = b.width(), b_h = b.height();
  T ga = g_turn / (a_w * a_w + a_h * a_h), gb = g_turn / (b_w * b_w + b_h * b_h);
  da.x1 = da.x1 - ga * a_h, da.x2 = da.x2 + ga * a_h;
  da.y1 = da.y1 + ga * a_w, da.y2 = da.y2 - ga * a_w;
  db.x1 = db.x1 + gb * b_h, db.x2 = db.x2 - gb * b_h;
  db.y1 = db.y1 - gb * b_w, db.y2 = db.y2 + gb * b_w;
}

// Adds what each corner gets. The inner edges bound the intersection and the outer edges the hull,
// so the shares of both boxes add up to 1.
template <class T>
DETCORE_HD void corners_backward(const Box<T>& a, const Box<T>& b, const OverlapGrad<T>& g,
                                 Box<T>& da, Box<T>& db) {
  T left = share_if_greater(a.x1, b.x1), top = share_if_greater(a.y1, b.y1);
  T right = share_if_greater(a.x2, b.x2), bottom = share_if_greater(a.y2, b.y2);
  T one = T(1);
  T a_h = a.height() * g.area, a_w = a.width() * g.area;
  T b_h = b.height() * g.area, b_w = b.width() * g.area;
  da.x1 = da.x1 - a_h - g.w * left - g.hull_w * (one - left) + g.dx;
  da.y1 = da.y1 - a_w - g.h * top - g.hull_h * (one - top) + g.dy;
  da.x2 = da.x2 + a_h + g.w * (one - right) + g.hull_w * right + g.dx;
  da.y2 = da.y2 + a_w + g.h * (one - bottom) + g.hull_h * bottom + g.dy;
  db.x1 = db.x1 - b_h - g.w * (one - left) - g.hull_w * left - g.dx;
  db.y1 = db.y1 - b_w - g.h * (one - top) - g.hull_h * top - g.dy;
  db.x2 = db.x2 + b_h + g.w * right + g.hull_w * (one - right) - g.dx;
  db.y2 = db.y2 + b_w + g.h * bottom + g.hull_h * (one - bottom) - g.dy;
}

// Adds the gradients of `overlap` with respect to both boxes to da and db. g is the gradient of its
// result.
template <IouKind kind, class T>
DETCORE_HD void overlap_backward(const MeasuredBox<T>& a, const MeasuredBox<T>& b,
                                 const IouEps<T>& eps, T g, Box<T>& da, Box<T>& db) {
  T w = shared_width<T>(a, b), h = shared_height<T>(a, b);
  T inter_w = lane_max(w, T(0)), inter_h = lane_max(h, T(0));
  T inter = inter_w * inter_h;
  T uni = union_area(a.size, b.size, inter);
  T inv = T(1) / (uni + eps.area);
  T iou = inter * inv;
  T g_inter = g * (inv + iou * inv);
  OverlapGrad<T> to{T(0) - g * iou * inv, T(0), T(0), T(0), T(0), T(0), T(0)};

  if (kind != IouKind::iou) {
    T raw_w = lane_max(a.x2, b.x2) - lane_min(a.x1, b.x1);
    T raw_h = lane_max(a.y2, b.y2) - lane_min(a.y1, b.y1);
    T hull_w = lane_max(raw_w, T(0)), hull_h = lane_max(raw_h, T(0));
    if (kind == IouKind::giou) {
      T inv_hull = T(1) / (hull_w * hull_h + eps.area);
      g_inter = g_inter - g * inv_hull;
      to.area = to.area + g * inv_hull;
      T g_hull = T(0) - g * (uni + eps.area) * inv_hull * inv_hull;
      to.hull_w = g_hull * hull_h;
      to.hull_h = g_hull * hull_w;
    } else {
      T inv_diagonal = T(1) / (hull_w * hull_w + hull_h * hull_h + eps.length);
      T dx = (a.x1 + a.x2) * T(0.5) - (b.x1 + b.x2) * T(0.5);
      T dy = (a.y1 + a.y2) * T(0.5) - (b.y1 + b.y2) * T(0.5);
      T g_diagonal = g * (dx * dx + dy * dy) * inv_diagonal * inv_diagonal;
      to.hull_w = g_diagonal * T(2) * hull_w;
      to.hull_h = g_diagonal * T(2) * hull_h;
      to.dx = T(0) - g * inv_diagonal * dx;  // the centre's 0.5 and the square's 2 cancel
      to.dy = T(0) - g * inv_diagonal * dy;
      if (kind == IouKind::ciou) {
        T turn = a.angle - b.angle;
        T v = T(kInvPiSquared4) * (turn * turn);
        T alpha = v / (T(1) - iou + v + eps.length);  // treated as a constant, as usual for CIoU
        turn_backward<T>(a, b, T(0) - g * alpha * T(2 * kInvPiSquared4) * turn, da, db);
      }
    }
    to.hull_w = lane_select(raw_w > T(0), to.hull_w, T(0));
    to.hull_h = lane_select(raw_h > T(0), to.hull_h, T(0));
  }
  to.w = lane_select(w > T(0), g_inter * inter_h, T(0));
  to.h = lane_select(h > T(0), g_inter * inter_w, T(0));
  corners_backward<T>(a, b, to, da, db);
}

// The delta codec of R-CNN (Girshick et al., CVPR 2014, appendix C). w: weights of x, y, w, h.
template <class T>
struct CodecWeights {
  T x, y, w, h;
};

template <class T>
DETCORE_HD Box<T> encode_delta(const Box<T>& box, const Box<T>& anchor, const CodecWeights<T>& k) {
  T aw = anchor.width(), ah = anchor.height(), bw = box.width(), bh = box.height();
  T ax = anchor.x1 + T(0.5) * aw, ay = anchor.y1 + T(0.5) * ah;
  T bx = box.x1 + T(0.5) * bw, by = box.y1 + T(0.5) * bh;
  return {k.x * (bx - ax) / aw, k.y * (by - ay) / ah, k.w * lane_log(bw / aw),
          k.h * lane_log(bh / ah)};
}

template <class T>
DETCORE_HD T clip_from_above(T x, T limit) {
  return lane_select(x > limit, limit, x);  // NaN stays NaN
}

template <class T>
DETCORE_HD Box<T> decode_delta(const Box<T>& d, const Box<T>& anchor, const CodecWeights<T>& k,
                               T clip) {
  T aw = anchor.width(), ah = anchor.height();
  T ax = anchor.x1 + T(0.5) * aw, ay = anchor.y1 + T(0.5) * ah;
  T x = d.x1 / k.x * aw + ax, y = d.y1 / k.y * ah + ay;
  T half_w = T(0.5) * (lane_exp(clip_from_above(d.x2 / k.w, clip)) * aw);
  T half_h = T(0.5) * (lane_exp(clip_from_above(d.y2 / k.h, clip)) * ah);
  return {x - half_w, y - half_h, x + half_w, y + half_h};
}

// Gradients of decode_delta: sets that of the delta, and adds that of the anchor.
template <class T>
DETCORE_HD void decode_delta_backward(const Box<T>& d, const Box<T>& anchor,
                                      const CodecWeights<T>& k, T clip, const Box<T>& g,
                                      Box<T>& d_delta, Box<T>& d_anchor) {
  T aw = anchor.width(), ah = anchor.height();
  T g_x = g.x1 + g.x2, g_y = g.y1 + g.y2;
  T g_w = T(0.5) * (g.x2 - g.x1), g_h = T(0.5) * (g.y2 - g.y1);
  T ew = lane_exp(clip_from_above(d.x2 / k.w, clip)),
    eh = lane_exp(clip_from_above(d.y2 / k.h, clip));
  d_delta.x1 = g_x * aw / k.x;
  d_delta.y1 = g_y * ah / k.y;
  d_delta.x2 = lane_select(d.x2 / k.w > clip, T(0), g_w * ew * aw / k.w);
  d_delta.y2 = lane_select(d.y2 / k.h > clip, T(0), g_h * eh * ah / k.h);
  T g_aw = g_x * d.x1 / k.x + g_w * ew, g_ah = g_y * d.y1 / k.y + g_h * eh;
  d_anchor.x1 = d_anchor.x1 + (T(0.5) * g_x - g_aw);
  d_anchor.x2 = d_anchor.x2 + (T(0.5) * g_x + g_aw);
  d_anchor.y1 = d_anchor.y1 + (T(0.5) * g_y - g_ah);
  d_anchor.y2 = d_anchor.y2 + (T(0.5) * g_y + g_ah);
}

// Gradients of encode_delta, with respect to the box and the anchor.
template <class T>
DETCORE_HD void encode_delta_backward(const Box<T>& box, const Box<T>& anchor,
                                      const CodecWeights<T>& k, const Box<T>& g, Box<T>& d_box,
                                      Box<T>& d_anchor) {
  T aw = anchor.width(), ah = anchor.height(), bw = box.width(), bh = box.height();
  T dx = box.x1 + T(0.5) * bw - (anchor.x1 + T(0.5) * aw);
  T dy = box.y1 + T(0.5) * bh - (anchor.y1 + T(0.5) * ah);
  T g_x = g.x1 * k.x / aw, g_y = g.y1 * k.y / ah;
  T g_bw = g.x2 * k.w / bw, g_bh = g.y2 * k.h / bh;
  d_box = {T(0.5) * g_x - g_bw, T(0.5) * g_y - g_bh, T(0.5) * g_x + g_bw, T(0.5) * g_y + g_bh};
  T g_aw = T(0) - g_x * dx / aw - g.x2 * k.w / aw, g_ah = T(0) - g_y * dy / ah - g.y2 * k.h / ah;
  d_anchor = {T(-0.5) * g_x - g_aw, T(-0.5) * g_y - g_ah, T(-0.5) * g_x + g_aw,
              T(-0.5) * g_y + g_ah};
}

}  // namespace DETCORE_ISA
}  // namespace detcore
