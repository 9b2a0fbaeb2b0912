#include "detcore/paired_box_iou.h"

#include "launch.cuh"
#include "rotated_loads.cuh"
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

template <IouKind kind, class S>
__global__ void rotated_forward_kernel(PairedBoxIouParams p) {
  using T = arithmetic_t<S>;
  for (int64_t i = global_thread(); i < p.n; i += all_threads()) {
    const auto a = load_rotated(static_cast<const S*>(p.boxes1), i);
    const auto b = load_rotated(static_cast<const S*>(p.boxes2), i);
    static_cast<T*>(p.out)[i] = rotated_pair_overlap<kind>(a, b, T(p.eps));
  }
}

template <IouKind kind, class S>
__global__ void rotated_backward_kernel(PairedBoxIouBackwardParams p) {
  using T = arithmetic_t<S>;
  const PairedBoxIouParams& f = p.forward;
  for (int64_t i = global_thread(); i < f.n; i += all_threads()) {
    const auto a = load_rotated(static_cast<const S*>(f.boxes1), i);
    const auto b = load_rotated(static_cast<const S*>(f.boxes2), i);
    const T g = static_cast<const T*>(p.grad_out)[i];
#pragma unroll 1  // one copy of the code serves both gradients
    for (int second = 0; second < 2; ++second) {
      RotatedGrad<T> sum{};
      rotated_pair_overlap_backward<kind>(select_box(second == 0, a, b),
                                          select_box(second == 0, b, a), T(f.eps), g, sum);
      T* grads = static_cast<T*>(second ? p.grad_boxes2 : p.grad_boxes1);
      store_gradient(RotatedKind::image, sum, grads + numbers_of(RotatedKind::image) * i);
    }
  }
}

}  // namespace

Status paired_box_iou_cuda(const PairedBoxIouParams& p, Stream stream) {
  const LaunchShape shape{blocks_for(p.n, kThreads), kThreads};
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (p.rotated)
      return with_rotated_kind(p.kind, [&](auto kind) {
        return launch(rotated_forward_kernel<decltype(kind)::value, S>, shape, stream, p);
      });
    return with_kind(p.kind, [&](auto kind) {
      return launch(forward_kernel<decltype(kind)::value, S>, shape, stream, p);
    });
  });
}

Status paired_box_iou_backward_cuda(const PairedBoxIouBackwardParams& p, Stream stream) {
  const PairedBoxIouParams& f = p.forward;
  const LaunchShape shape{blocks_for(f.n, kThreads), kThreads};
  return with_storage(f.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (f.rotated)
      return with_rotated_kind(f.kind, [&](auto kind) {
        return launch(rotated_backward_kernel<decltype(kind)::value, S>, shape, stream, p);
      });
    return with_kind(f.kind, [&](auto kind) {
      return launch(backward_kernel<decltype(kind)::value, S>, shape, stream, p);
    });
  });
}

}  // namespace detcore
