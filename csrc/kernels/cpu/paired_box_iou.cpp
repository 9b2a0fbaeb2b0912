#include "detcore/paired_box_iou.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kGrain = 4096;  // minimum of pairs per thread

// Calls f(storage, kind, eps).
template <class F>
Status with_storage_and_kind(const PairedBoxIouParams& p, F&& f) {
  return with_storage(p.dtype, [&](auto storage) {
    return with_kind(p.kind, [&](auto kind) {
      using L = Lanes<arithmetic_t<decltype(storage)>>;
      f(storage, kind, IouEps<L>{L(p.eps), L(p.eps)});
      return Status{};
    });
  });
}

template <IouKind kind, class S>
DETCORE_HD MeasuredBox<Lanes<arithmetic_t<S>>> measured(const void* boxes, int64_t i, int64_t count,
                                                        S) {
  return measure<kind>(load_boxes(static_cast<const S*>(boxes) + 4 * i, count));
}

}  // namespace

Status paired_box_iou(const PairedBoxIouParams& p, const Executor& executor) {
  return with_storage_and_kind(p, [&](auto storage, auto kind, auto eps) {
    using T = arithmetic_t<decltype(storage)>;
    constexpr IouKind k = decltype(kind)::value;
    each_vector<T>(executor, p.n, kGrain, [&](int64_t i, int64_t count) {
      const auto a = measured<k>(p.boxes1, i, count, storage);
      const auto b = measured<k>(p.boxes2, i, count, storage);
      overlap<k>(a, b, eps).store(static_cast<T*>(p.out) + i, count);
    });
  });
}

Status paired_box_iou_backward(const PairedBoxIouBackwardParams& p, const Executor& executor) {
  return with_storage_and_kind(p.forward, [&](auto storage, auto kind, auto eps) {
    using T = arithmetic_t<decltype(storage)>;
    constexpr IouKind k = decltype(kind)::value;
    each_vector<T>(executor, p.forward.n, kGrain, [&](int64_t i, int64_t count) {
      const auto a = measured<k>(p.forward.boxes1, i, count, storage);
      const auto b = measured<k>(p.forward.boxes2, i, count, storage);
      const auto g = Lanes<T>::load(static_cast<const T*>(p.grad_out) + i, count);
      Box<Lanes<T>> da{T(0), T(0), T(0), T(0)}, db = da;
      overlap_backward<k>(a, b, eps, g, da, db);
      store_boxes(da, static_cast<T*>(p.grad_boxes1) + 4 * i, count);
      store_boxes(db, static_cast<T*>(p.grad_boxes2) + 4 * i, count);
    });
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(paired_box_iou, PairedBoxIouParams)
DETCORE_CPU_ENTRY(paired_box_iou_backward, PairedBoxIouBackwardParams)
