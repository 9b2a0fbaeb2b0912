#include "detcore/box_codec.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kGrain = 2048;  // anchors a thread takes at least

template <class T>
CodecWeights<T> weights_of(const BoxCodecParams& p) {
  return {T(p.weights[0]), T(p.weights[1]), T(p.weights[2]), T(p.weights[3])};
}

// f(S{}, anchor, i) for every anchor.
template <class F>
Status each_anchor(const BoxCodecParams& p, const Executor& executor, const F& f) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    parallel_for(executor, p.n, 1 + kGrain / (p.k + 1), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        f(storage, load_box(static_cast<const S*>(p.anchors) + 4 * i), i);
    });
    return Status{};
  });
}

}  // namespace

Status encode_boxes(const BoxCodecParams& p, const Executor& executor) {
  return each_anchor(p, executor, [&](auto storage, auto anchor, int64_t i) {
    using S = decltype(storage);
    auto box = load_box(static_cast<const S*>(p.input) + 4 * i);
    store_box(static_cast<S*>(p.out) + 4 * i,
              encode_delta(box, anchor, weights_of<arithmetic_t<S>>(p)));
  });
}

Status decode_boxes(const BoxCodecParams& p, const Executor& executor) {
  return each_anchor(p, executor, [&](auto storage, auto anchor, int64_t i) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    for (int64_t j = i * p.k; j < (i + 1) * p.k; ++j) {
      auto delta = load_box(static_cast<const S*>(p.input) + 4 * j);
      store_box(static_cast<S*>(p.out) + 4 * j,
                decode_delta(delta, anchor, weights_of<T>(p), T(p.clip)));
    }
  });
}

Status encode_boxes_backward(const BoxCodecBackwardParams& p, const Executor& executor) {
  return each_anchor(p.forward, executor, [&](auto storage, auto anchor, int64_t i) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    auto box = load_box(static_cast<const S*>(p.forward.input) + 4 * i);
    auto g = load_box(static_cast<const S*>(p.grad_out) + 4 * i);
    Box<T> d_box, d_anchor;
    encode_delta_backward(box, anchor, weights_of<T>(p.forward), g, d_box, d_anchor);
    store_box(static_cast<S*>(p.grad_input) + 4 * i, d_box);
    store_box(static_cast<S*>(p.grad_anchors) + 4 * i, d_anchor);
  });
}

Status decode_boxes_backward(const BoxCodecBackwardParams& p, const Executor& executor) {
  return each_anchor(p.forward, executor, [&](auto storage, auto anchor, int64_t i) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    Box<T> d_anchor{T(0), T(0), T(0), T(0)}, d_delta;
    for (int64_t j = i * p.forward.k; j < (i + 1) * p.forward.k; ++j) {
      auto delta = load_box(static_cast<const S*>(p.forward.input) + 4 * j);
      auto g = load_box(static_cast<const S*>(p.grad_out) + 4 * j);
      decode_delta_backward(delta, anchor, weights_of<T>(p.forward), T(p.forward.clip), g, d_delta,
                            d_anchor);
      store_box(static_cast<S*>(p.grad_input) + 4 * j, d_delta);
    }
    store_box(static_cast<S*>(p.grad_anchors) + 4 * i, d_anchor);
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(encode_boxes, BoxCodecParams)
DETCORE_CPU_ENTRY(decode_boxes, BoxCodecParams)
DETCORE_CPU_ENTRY(encode_boxes_backward, BoxCodecBackwardParams)
DETCORE_CPU_ENTRY(decode_boxes_backward, BoxCodecBackwardParams)
