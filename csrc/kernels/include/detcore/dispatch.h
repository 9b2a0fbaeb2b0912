// Converts run-time choices to compile-time constants, for host and device launchers.
#pragma once

#include "detcore/core.h"
#include "detcore/dense_codec.h"

namespace detcore {
inline namespace DETCORE_ISA {

// The arithmetic type of a storage type: double for double, float for all others.
template <class S>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class S>
using arithmetic_t = typename ArithmeticOf<S>::type;

template <class E, E e>
struct Constant {
  static constexpr E value = e;
};

// Calls f(Constant<IouKind, kind>{}).
template <class F>
Status with_kind(IouKind kind, F&& f) {
  switch (kind) {
    case IouKind::iou: return f(Constant<IouKind, IouKind::iou>{});
    case IouKind::giou: return f(Constant<IouKind, IouKind::giou>{});
    case IouKind::diou: return f(Constant<IouKind, IouKind::diou>{});
    case IouKind::ciou: return f(Constant<IouKind, IouKind::ciou>{});
  }
  return {"unknown kind of IoU"};
}

// Calls f(Constant<DenseCodec, codec>{}).
template <class F>
Status with_codec(DenseCodec codec, F&& f) {
  switch (codec) {
    case DenseCodec::delta: return f(Constant<DenseCodec, DenseCodec::delta>{});
    case DenseCodec::yolo: return f(Constant<DenseCodec, DenseCodec::yolo>{});
    case DenseCodec::yolo5: return f(Constant<DenseCodec, DenseCodec::yolo5>{});
    case DenseCodec::grid: return f(Constant<DenseCodec, DenseCodec::grid>{});
    case DenseCodec::ltrb: return f(Constant<DenseCodec, DenseCodec::ltrb>{});
    case DenseCodec::dfl: return f(Constant<DenseCodec, DenseCodec::dfl>{});
  }
  return {"unknown codec"};
}

}  // namespace DETCORE_ISA
}  // namespace detcore
