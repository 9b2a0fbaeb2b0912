#include "detcore/paired_box_iou.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kGrain = 4096;  // pairs a thread takes at least

template <class F>
Status with_storage_and_kind(const PairedBoxIouParams& p, F&& f) {
  return with_storage(p.dtype, [&](auto storage) {
    return with_kind(p.kind, [&](auto kind) {
      f(storage, kind);
      return Status{};
    });
  });
}

}  // namespace

Status paired_box_iou(const PairedBoxIouParams& p, const Executor& executor) {
  return with_storage_and_kind(p, [&](auto storage, auto kind) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    constexpr IouKind k = decltype(kind)::value;
    const IouEps<T> eps{T(p.eps), T(p.eps)};
    parallel_for(executor, p.n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        auto a = measure<k>(load_box(static_cast<const S*>(p.boxes1) + 4 * i));
        auto b = measure<k>(load_box(static_cast<const S*>(p.boxes2) + 4 * i));
        static_cast<T*>(p.out)[i] = overlap<k>(a, b, eps);
      }
    });
  });
}

Status paired_box_iou_backward(const PairedBoxIouBackwardParams& p, const Executor& executor) {
  return with_storage_and_kind(p.forward, [&](auto storage, auto kind) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    constexpr IouKind k = decltype(kind)::value;
    const IouEps<T> eps{T(p.forward.eps), T(p.forward.eps)};
    parallel_for(executor, p.forward.n, kGrain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        auto a = measure<k>(load_box(static_cast<const S*>(p.forward.boxes1) + 4 * i));
        auto b = measure<k>(load_box(static_cast<const S*>(p.forward.boxes2) + 4 * i));
        Box<T> da{T(0), T(0), T(0), T(0)}, db = da;
        overlap_backward<k>(a, b, eps, static_cast<const T*>(p.grad_out)[i], da, db);
        store_box(static_cast<T*>(p.grad_boxes1) + 4 * i, da);
        store_box(static_cast<T*>(p.grad_boxes2) + 4 * i, db);
      }
    });
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(paired_box_iou, PairedBoxIouParams)
DETCORE_CPU_ENTRY(paired_box_iou_backward, PairedBoxIouBackwardParams)
