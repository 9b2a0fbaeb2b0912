// encode_boxes and decode_boxes, forward and backward: one thread per box.
#include "detcore/box_codec.h"

#include "launch.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;

template <class T>
__device__ CodecWeights<T> weights_of(const BoxCodecParams& p) {
  return {T(p.weights[0]), T(p.weights[1]), T(p.weights[2]), T(p.weights[3])};
}

template <class S>
__global__ void encode_kernel(BoxCodecParams p) {
  for (int64_t i = global_thread(); i < p.n; i += all_threads()) {
    auto box = load_box(static_cast<const S*>(p.input) + 4 * i);
    auto anchor = load_box(static_cast<const S*>(p.anchors) + 4 * i);
    store_box(static_cast<S*>(p.out) + 4 * i,
              encode_delta(box, anchor, weights_of<arithmetic_t<S>>(p)));
  }
}

template <class S>
__global__ void decode_kernel(BoxCodecParams p) {
  using T = arithmetic_t<S>;
  for (int64_t j = global_thread(); j < p.n * p.k; j += all_threads()) {
    auto delta = load_box(static_cast<const S*>(p.input) + 4 * j);
    auto anchor = load_box(static_cast<const S*>(p.anchors) + 4 * (j / p.k));
    store_box(static_cast<S*>(p.out) + 4 * j,
              decode_delta(delta, anchor, weights_of<T>(p), T(p.clip)));
  }
}

template <class S>
__global__ void encode_backward_kernel(BoxCodecBackwardParams p) {
  using T = arithmetic_t<S>;
  for (int64_t i = global_thread(); i < p.forward.n; i += all_threads()) {
    auto box = load_box(static_cast<const S*>(p.forward.input) + 4 * i);
    auto anchor = load_box(static_cast<const S*>(p.forward.anchors) + 4 * i);
    auto g = load_box(static_cast<const S*>(p.grad_out) + 4 * i);
    Box<T> d_box, d_anchor;
    encode_delta_backward(box, anchor, weights_of<T>(p.forward), g, d_box, d_anchor);
    store_box(static_cast<S*>(p.grad_input) + 4 * i, d_box);
    store_box(static_cast<S*>(p.grad_anchors) + 4 * i, d_anchor);
  }
}

template <class S>
__global__ void decode_backward_kernel(BoxCodecBackwardParams p) {
  using T = arithmetic_t<S>;
  const BoxCodecParams& f = p.forward;
  for (int64_t i = global_thread(); i < f.n; i += all_threads()) {
    auto anchor = load_box(static_cast<const S*>(f.anchors) + 4 * i);
    Box<T> d_anchor{T(0), T(0), T(0), T(0)}, d_delta;
    for (int64_t j = i * f.k; j < (i + 1) * f.k; ++j) {
      auto delta = load_box(static_cast<const S*>(f.input) + 4 * j);
      auto g = load_box(static_cast<const S*>(p.grad_out) + 4 * j);
      decode_delta_backward(delta, anchor, weights_of<T>(f), T(f.clip), g, d_delta, d_anchor);
      store_box(static_cast<S*>(p.grad_input) + 4 * j, d_delta);
    }
    store_box(static_cast<S*>(p.grad_anchors) + 4 * i, d_anchor);
  }
}

}  // namespace

Status encode_boxes_cuda(const BoxCodecParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    return launch(encode_kernel<decltype(storage)>, {blocks_for(p.n, kThreads), kThreads}, stream,
                  p);
  });
}

Status decode_boxes_cuda(const BoxCodecParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    return launch(decode_kernel<decltype(storage)>, {blocks_for(p.n * p.k, kThreads), kThreads},
                  stream, p);
  });
}

Status encode_boxes_backward_cuda(const BoxCodecBackwardParams& p, Stream stream) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    return launch(encode_backward_kernel<decltype(storage)>,
                  {blocks_for(p.forward.n, kThreads), kThreads}, stream, p);
  });
}

Status decode_boxes_backward_cuda(const BoxCodecBackwardParams& p, Stream stream) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    return launch(decode_backward_kernel<decltype(storage)>,
                  {blocks_for(p.forward.n, kThreads), kThreads}, stream, p);
  });
}

}  // namespace detcore
