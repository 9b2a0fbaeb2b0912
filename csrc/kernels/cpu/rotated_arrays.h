// Measured rotated boxes stored as one array per number, so that one load fills all lanes. All are
// double: half as many lanes as of float, but boxes far from the origin and thin ones keep their
// digits.
#pragma once

#include "detcore/rotated_box.h"
#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // private to each file, because each is compiled for several instruction sets

using WideRotatedBox = RotatedBox<Lanes<double>, Lanes<double>>;

constexpr int64_t kRotatedNumbers = 5;  // of a box that is not measured yet

template <class S>
DETCORE_HD RotatedBox<double, double> measure_rotated_box(const S* b) {
  return measure_rotated<double>(widen(b[0]), widen(b[1]), widen(b[2]), widen(b[3]), widen(b[4]));
}

// A vector may begin at any box.
struct RotatedArrays {
  double* first;   // the array of x
  int64_t stride;  // from one array to the next

  static RotatedArrays take(Arena& arena, int64_t count) {
    constexpr int64_t pad = 16;  // boxes that may be read past the last, for any lane width
    const int64_t stride = divide_up(count, pad) * pad + pad;
    return {arena.take<double>(10 * stride), stride};
  }
  void put(int64_t i, const RotatedBox<double, double>& b) const {
    const double numbers[] = {b.x,      b.y,     b.cosine, b.sine, b.half_w,
                              b.half_h, b.per_w, b.per_h,  b.area, b.reach};
    for (int64_t k = 0; k < 10; ++k) first[k * stride + i] = numbers[k];
  }
  template <class U, class F>
  DETCORE_HD RotatedBox<U, U> each(const double* p, const F& f) const {
    return {f(p),
            f(p + stride),
            f(p + 2 * stride),
            f(p + 3 * stride),
            f(p + 4 * stride),
            f(p + 5 * stride),
            f(p + 6 * stride),
            f(p + 7 * stride),
            f(p + 8 * stride),
            f(p + 9 * stride)};
  }
  // The boxes from i on.
  DETCORE_HD WideRotatedBox lanes(int64_t i) const {
    return each<Lanes<double>>(first + i, [](const double* p) { return Lanes<double>::load(p); });
  }
  DETCORE_HD WideRotatedBox in_all_lanes(int64_t i) const {
    return each<Lanes<double>>(first + i, [](const double* p) { return Lanes<double>(*p); });
  }
  // The boxes of these indices, one per lane.
  DETCORE_HD WideRotatedBox gather(const int32_t* indices) const {
    return each<Lanes<double>>(first, [indices](const double* p) {
      Lanes<double> x;
      for (int k = 0; k < Lanes<double>::width; ++k) x.v[k] = p[indices[k]];
      return x;
    });
  }
};

// Results in the caller's dtype.
DETCORE_HD void store_as(Lanes<double> x, double* p, int64_t count) { x.store(p, count); }
DETCORE_HD void store_as(Lanes<double> x, float* p, int64_t count) {
  typedef float Narrow __attribute__((vector_size(sizeof(float) * Lanes<double>::width)));
  const Narrow narrow = __builtin_convertvector(x.v, Narrow);
  memcpy(p, &narrow, count * sizeof(float));
}

// To the nearest value of this type.
DETCORE_HD Lanes<double> rounded(Lanes<double> x, double) { return x; }
DETCORE_HD Lanes<double> rounded(Lanes<double> x, float) {
  typedef float Narrow __attribute__((vector_size(sizeof(float) * Lanes<double>::width)));
  typedef double Wide __attribute__((vector_size(sizeof(double) * Lanes<double>::width)));
  return Lanes<double>(__builtin_convertvector(__builtin_convertvector(x.v, Narrow), Wide));
}

DETCORE_HD Lanes<double> load_as_double(const double* p, int64_t count) {
  return Lanes<double>::load(p, count);
}
DETCORE_HD Lanes<double> load_as_double(const float* p, int64_t count) {
  Lanes<double> x(0.0);
  for (int64_t i = 0; i < count; ++i) x.v[i] = double(p[i]);
  return x;
}

// --- gradients ---------------------------------------------------------------------------------

using WideGrad = RotatedGrad<Lanes<double>>;

DETCORE_HD WideGrad no_gradient() {
  const Lanes<double> zero(0.0);
  return {zero, zero, zero, zero, zero};
}

// The gradients of `count` boxes, one per lane.
template <class T>
DETCORE_HD void store_grads(const WideGrad& g, T* out, int64_t count) {
  for (int64_t k = 0; k < count; ++k, out += kRotatedNumbers) {
    out[0] = T(g.x.v[k]), out[1] = T(g.y.v[k]), out[2] = T(g.w.v[k]);
    out[3] = T(g.h.v[k]), out[4] = T(g.angle.v[k]);
  }
}

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
