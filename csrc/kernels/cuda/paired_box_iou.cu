#include "detcore/paired_box_iou.h"

#include "launch.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;

template <IouKind kind, class S>
__global__ void forward_kernel(PairedBoxIouParams p) {
  using T = arithmetic_t<S>;
  const IouEps<T> eps{T(p.eps), T(p.eps)};
  for (int64_t i = global_thread(); i < p.n; i += all_threads()) {
    auto a = measure<kind>(load_box(static_cast<const S*>(p.boxes1) + 4 * i));
    auto b = measure<kind>(load_box(static_cast<const S*>(p.boxes2) + 4 * i));
    static_cast<T*>(p.out)[i] = overlap<kind>(a, b, eps);
  }
}

template <IouKind kind, class S>
__global__ void backward_kernel(PairedBoxIouBackwardParams p) {
  using T = arithmetic_t<S>;
  const IouEps<T> eps{T(p.forward.eps), T(p.forward.eps)};
  for (int64_t i = global_thread(); i < p.forward.n; i += all_threads()) {
    auto a = measure<kind>(load_box(static_cast<const S*>(p.forward.boxes1) + 4 * i));
    auto b = measure<kind>(load_box(static_cast<const S*>(p.forward.boxes2) + 4 * i));
    Box<T> da{T(0), T(0), T(0), T(0)}, db = da;
    overlap_backward<kind>(a, b, eps, static_cast<const T*>(p.grad_out)[i], da, db);
    store_box(static_cast<T*>(p.grad_boxes1) + 4 * i, da);
    store_box(static_cast<T*>(p.grad_boxes2) + 4 * i, db);
  }
}

}  // namespace

Status paired_box_iou_cuda(const PairedBoxIouParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    return with_kind(p.kind, [&](auto kind) {
      return launch(forward_kernel<decltype(kind)::value, decltype(storage)>,
                    {blocks_for(p.n, kThreads), kThreads}, stream, p);
    });
  });
}

Status paired_box_iou_backward_cuda(const PairedBoxIouBackwardParams& p, Stream stream) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    return with_kind(p.forward.kind, [&](auto kind) {
      return launch(backward_kernel<decltype(kind)::value, decltype(storage)>,
                    {blocks_for(p.forward.n, kThreads), kThreads}, stream, p);
    });
  });
}

}  // namespace detcore
