// Measured rotated boxes stored as one array per number, so that one load fills all lanes. All are
// double: half as many lanes as of float, but boxes far from the origin and thin ones keep their
// digits.
#pragma once

#include "detcore/box3d.h"
#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // private to each file, because each is compiled for several instruction sets

using WideRotatedBox = RotatedBox<Lanes<double>, Lanes<double>>;
using WideBox3d = Box3d<Lanes<double>, Lanes<double>>;

// Measures box i of an array.
template <class Geometry, class S>
DETCORE_HD auto measure_rotated_box(Geometry geometry, RotatedKind kind, const S* boxes,
                                    int64_t i) {
  return measure_box<double>(geometry, kind, boxes + numbers_of(kind) * i,
                             [](S number) { return double(widen(number)); });
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
  RotatedArrays from(int64_t begin) const { return {first + begin, stride}; }
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

// The same of boxes in space.
struct Box3dArrays {
  RotatedArrays base;
  double *z, *height;

  static Box3dArrays take(Arena& arena, int64_t count) {
    const RotatedArrays base = RotatedArrays::take(arena, count);
    double* z = arena.take<double>(base.stride);
    return {base, z, arena.take<double>(base.stride)};
  }
  Box3dArrays from(int64_t begin) const { return {base.from(begin), z + begin, height + begin}; }
  void put(int64_t i, const Box3d<double, double>& b) const {
    base.put(i, b.base);
    z[i] = b.z, height[i] = b.height;
  }
  DETCORE_HD WideBox3d lanes(int64_t i) const {
    return {base.lanes(i), Lanes<double>::load(z + i), Lanes<double>::load(height + i)};
  }
  DETCORE_HD WideBox3d in_all_lanes(int64_t i) const {
    return {base.in_all_lanes(i), Lanes<double>(z[i]), Lanes<double>(height[i])};
  }
  DETCORE_HD WideBox3d gather(const int32_t* indices) const {
    WideBox3d box;
    box.base = base.gather(indices);
    for (int k = 0; k < Lanes<double>::width; ++k)
      box.z.v[k] = z[indices[k]], box.height.v[k] = height[indices[k]];
    return box;
  }
};

// The arrays of a geometry's boxes.
template <class Geometry>
struct ArraysOf {
  using type = RotatedArrays;
};
template <>
struct ArraysOf<InSpace> {
  using type = Box3dArrays;
};

// Writes the gradients of `count` boxes, one per lane.
template <class Geometry, class T>
DETCORE_HD void store_gradients(RotatedKind kind,
                                const typename Geometry::template Grad<Lanes<double>>& gradients,
                                T* out, int64_t count) {
  for (int64_t k = 0; k < count; ++k, out += numbers_of(kind)) {
    typename Geometry::template Grad<double> own{};
    each_number(own, gradients, [k](double& to, Lanes<double> value) { to = value.v[k]; });
    store_gradient(kind, own, out);
  }
}

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
