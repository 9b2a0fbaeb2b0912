// Upright boxes: a vector of pairs is loaded at once. Rotated ones are measured one by one, because
// of sines and cosines, and then compared by vectors.
#include "detcore/paired_box_iou.h"

#include "rotated_arrays.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kGrain = 4096;  // minimum of pairs per thread
constexpr int64_t kRotatedGrain = 512;

// --- upright boxes -----------------------------------------------------------------------------

template <IouKind kind, class S>
DETCORE_HD MeasuredBox<Lanes<arithmetic_t<S>>> measured(const void* boxes, int64_t i,
                                                        int64_t count) {
  return measure<kind>(load_boxes(static_cast<const S*>(boxes) + 4 * i, count));
}

template <IouKind kind, class S, class T = arithmetic_t<S>>
void forward(const PairedBoxIouParams& p, const Executor& executor) {
  const IouEps<Lanes<T>> eps{T(p.eps), T(p.eps)};
  each_vector<T>(executor, p.n, kGrain, [&](int64_t i, int64_t count) {
    const auto a = measured<kind, S>(p.boxes1, i, count), b = measured<kind, S>(p.boxes2, i, count);
    overlap<kind>(a, b, eps).store(static_cast<T*>(p.out) + i, count);
  });
}

template <IouKind kind, class S, class T = arithmetic_t<S>>
void backward(const PairedBoxIouBackwardParams& p, const Executor& executor) {
  const PairedBoxIouParams& f = p.forward;
  const IouEps<Lanes<T>> eps{T(f.eps), T(f.eps)};
  each_vector<T>(executor, f.n, kGrain, [&](int64_t i, int64_t count) {
    const auto a = measured<kind, S>(f.boxes1, i, count), b = measured<kind, S>(f.boxes2, i, count);
    const auto g = Lanes<T>::load(static_cast<const T*>(p.grad_out) + i, count);
    Box<Lanes<T>> da{T(0), T(0), T(0), T(0)}, db = da;
    overlap_backward<kind>(a, b, eps, g, da, db);
    store_boxes(da, static_cast<T*>(p.grad_boxes1) + 4 * i, count);
    store_boxes(db, static_cast<T*>(p.grad_boxes2) + 4 * i, count);
  });
}

// --- rotated boxes -----------------------------------------------------------------------------

using L = Lanes<double>;

constexpr RotatedKind kKind = RotatedKind::image;

// The lanes past the last box are boxes without area.
template <class S>
WideRotatedBox measured_rotated(const void* boxes, int64_t i, int64_t count) {
  double numbers[10 * L::width];
  const RotatedArrays arrays{numbers, L::width};
  for (int64_t k = 0; k < L::width; ++k)
    arrays.put(k, k < count
                      ? measure_rotated_box(InPlane{}, kKind, static_cast<const S*>(boxes), i + k)
                      : RotatedBox<double, double>{});
  return arrays.lanes(0);
}

template <IouKind kind, class S, class T = arithmetic_t<S>>
void rotated_forward(const PairedBoxIouParams& p, const Executor& executor) {
  each_vector<double>(executor, p.n, kRotatedGrain, [&](int64_t i, int64_t count) {
    const auto a = measured_rotated<S>(p.boxes1, i, count);
    const auto b = measured_rotated<S>(p.boxes2, i, count);
    store_as(rotated_pair_overlap<kind>(a, b, L(p.eps)), static_cast<T*>(p.out) + i, count);
  });
}

template <IouKind kind, class S, class T = arithmetic_t<S>>
void rotated_backward(const PairedBoxIouBackwardParams& p, const Executor& executor) {
  const PairedBoxIouParams& f = p.forward;
  each_vector<double>(executor, f.n, kRotatedGrain, [&](int64_t i, int64_t count) {
    const auto a = measured_rotated<S>(f.boxes1, i, count);
    const auto b = measured_rotated<S>(f.boxes2, i, count);
    const L g = load_as_double(static_cast<const T*>(p.grad_out) + i, count);
    RotatedGrad<L> da{}, db{};
    rotated_pair_overlap_backward<kind>(a, b, L(f.eps), g, da);
    rotated_pair_overlap_backward<kind>(b, a, L(f.eps), g, db);
    store_gradients<InPlane>(kKind, da, static_cast<T*>(p.grad_boxes1) + numbers_of(kKind) * i,
                             count);
    store_gradients<InPlane>(kKind, db, static_cast<T*>(p.grad_boxes2) + numbers_of(kKind) * i,
                             count);
  });
}

}  // namespace

Status paired_box_iou(const PairedBoxIouParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (p.rotated)
      return with_rotated_kind(p.kind, [&](auto kind) {
        rotated_forward<decltype(kind)::value, S>(p, executor);
        return Status{};
      });
    return with_kind(p.kind, [&](auto kind) {
      forward<decltype(kind)::value, S>(p, executor);
      return Status{};
    });
  });
}

Status paired_box_iou_backward(const PairedBoxIouBackwardParams& p, const Executor& executor) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (p.forward.rotated)
      return with_rotated_kind(p.forward.kind, [&](auto kind) {
        rotated_backward<decltype(kind)::value, S>(p, executor);
        return Status{};
      });
    return with_kind(p.forward.kind, [&](auto kind) {
      backward<decltype(kind)::value, S>(p, executor);
      return Status{};
    });
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(paired_box_iou, PairedBoxIouParams)
DETCORE_CPU_ENTRY(paired_box_iou_backward, PairedBoxIouBackwardParams)
