// Boxes stored as one array per coordinate, so that one load fills all lanes: arrays in a
// workspace, and tiles that fit the L1 cache.
#pragma once

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {  // private to each file, because each is compiled for several instruction sets

template <class T>
struct BoxArrays {
  T *x1, *y1, *x2, *y2;

  static BoxArrays take(Arena& arena, int64_t count) {
    return {arena.take<T>(count), arena.take<T>(count), arena.take<T>(count), arena.take<T>(count)};
  }
  BoxArrays from(int64_t begin) const { return {x1 + begin, y1 + begin, x2 + begin, y2 + begin}; }
  DETCORE_HD void put(int64_t i, const Box<T>& b) const {
    x1[i] = b.x1, y1[i] = b.y1, x2[i] = b.x2, y2[i] = b.y2;
  }
  DETCORE_HD Box<T> operator[](int64_t i) const { return {x1[i], y1[i], x2[i], y2[i]}; }
  // The boxes from i on.
  DETCORE_HD Box<Lanes<T>> lanes(int64_t i) const {
    return {Lanes<T>::load(x1 + i), Lanes<T>::load(y1 + i), Lanes<T>::load(x2 + i),
            Lanes<T>::load(y2 + i)};
  }
  // The same for the first `count` boxes; the other lanes are zero.
  DETCORE_HD Box<Lanes<T>> lanes(int64_t i, int64_t count) const {
    return {Lanes<T>::load(x1 + i, count), Lanes<T>::load(y1 + i, count),
            Lanes<T>::load(x2 + i, count), Lanes<T>::load(y2 + i, count)};
  }
};

// Up to `capacity` measured boxes, for one kind of IoU. It is padded so that a vector may begin at
// any of them.
template <IouKind kind, class T, int64_t capacity>
struct BoxTile {
  static constexpr int64_t padded = capacity + Lanes<T>::width;
  alignas(64) T x1[padded], y1[padded], x2[padded], y2[padded], size[padded];
  alignas(64) T angle[kind == IouKind::ciou ? padded : 1];  // only CIoU uses it

  DETCORE_HD void put_lanes(int64_t i, const MeasuredBox<Lanes<T>>& m) {
    m.x1.store(x1 + i), m.y1.store(y1 + i), m.x2.store(x2 + i), m.y2.store(y2 + i);
    m.size.store(size + i);
    if constexpr (kind == IouKind::ciou) m.angle.store(angle + i);
  }
  // The boxes from i on.
  DETCORE_HD MeasuredBox<Lanes<T>> lanes(int64_t i) const {
    MeasuredBox<Lanes<T>> m;
    m.x1 = Lanes<T>::load(x1 + i), m.y1 = Lanes<T>::load(y1 + i);
    m.x2 = Lanes<T>::load(x2 + i), m.y2 = Lanes<T>::load(y2 + i);
    m.size = Lanes<T>::load(size + i), m.angle = T(0);
    if constexpr (kind == IouKind::ciou) m.angle = Lanes<T>::load(angle + i);
    return m;
  }
  DETCORE_HD MeasuredBox<Lanes<T>> in_all_lanes(int64_t i) const {
    MeasuredBox<Lanes<T>> m;
    m.x1 = x1[i], m.y1 = y1[i], m.x2 = x2[i], m.y2 = y2[i], m.size = size[i], m.angle = T(0);
    if constexpr (kind == IouKind::ciou) m.angle = angle[i];
    return m;
  }
};

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
