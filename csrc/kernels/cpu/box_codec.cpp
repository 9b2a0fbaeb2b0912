// encode_boxes and decode_boxes, forward and backward.
#include "detcore/box_codec.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kGrain = 8192;  // minimum of boxes per thread

template <class T>
CodecWeights<Lanes<T>> weights_of(const BoxCodecParams& p) {
  return {T(p.weights[0]), T(p.weights[1]), T(p.weights[2]), T(p.weights[3])};
}

// The anchors of the deltas [first, first + count), with k deltas per anchor.
template <class S, class T = arithmetic_t<S>>
DETCORE_HD Box<Lanes<T>> anchors_of(const BoxCodecParams& p, int64_t first, int64_t count) {
  const S* anchors = static_cast<const S*>(p.anchors);
  if (p.k == 1) return load_boxes(anchors + 4 * first, count);
  int64_t i = first / p.k, left = p.k - first % p.k;
  if (left >= count) {
    const Box<T> anchor = load_box(anchors + 4 * i);
    return {anchor.x1, anchor.y1, anchor.x2, anchor.y2};
  }
  T each[4 * Lanes<T>::width] = {};
  for (int64_t lane = 0; lane < count; ++lane) {
    store_box(each + 4 * lane, load_box(anchors + 4 * i));
    if (--left == 0) ++i, left = p.k;
  }
  return load_boxes(each);
}

}  // namespace

Status encode_boxes(const BoxCodecParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    const auto weights = weights_of<T>(p);
    each_vector<T>(executor, p.n, kGrain, [&](int64_t i, int64_t count) {
      const auto anchors = anchors_of<S>(p, i, count);
      const auto boxes = load_boxes(static_cast<const S*>(p.input) + 4 * i, count);
      store_boxes(encode_delta(boxes, anchors, weights), static_cast<S*>(p.out) + 4 * i, count);
    });
    return Status{};
  });
}

Status decode_boxes(const BoxCodecParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    const auto weights = weights_of<T>(p);
    const Lanes<T> clip = T(p.clip);
    each_vector<T>(executor, p.n * p.k, kGrain, [&](int64_t i, int64_t count) {
      const auto anchors = anchors_of<S>(p, i, count);
      const auto deltas = load_boxes(static_cast<const S*>(p.input) + 4 * i, count);
      store_boxes(decode_delta(deltas, anchors, weights, clip), static_cast<S*>(p.out) + 4 * i,
                  count);
    });
    return Status{};
  });
}

Status encode_boxes_backward(const BoxCodecBackwardParams& p, const Executor& executor) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    const auto weights = weights_of<T>(p.forward);
    each_vector<T>(executor, p.forward.n, kGrain, [&](int64_t i, int64_t count) {
      const auto anchors = anchors_of<S>(p.forward, i, count);
      const auto boxes = load_boxes(static_cast<const S*>(p.forward.input) + 4 * i, count);
      const auto grad = load_boxes(static_cast<const S*>(p.grad_out) + 4 * i, count);
      Box<Lanes<T>> d_boxes, d_anchors;
      encode_delta_backward(boxes, anchors, weights, grad, d_boxes, d_anchors);
      store_boxes(d_boxes, static_cast<S*>(p.grad_input) + 4 * i, count);
      store_boxes(d_anchors, static_cast<S*>(p.grad_anchors) + 4 * i, count);
    });
    return Status{};
  });
}

// One anchor per lane. Each lane sums over the k deltas of its anchor in order.
Status decode_boxes_backward(const BoxCodecBackwardParams& p, const Executor& executor) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    const int64_t k = p.forward.k;
    const auto weights = weights_of<T>(p.forward);
    const Lanes<T> clip = T(p.forward.clip);
    auto load = [&](const void* from, int64_t i, int64_t j, int64_t count) {
      const S* boxes = static_cast<const S*>(from) + 4 * (i * k + j);
      if (k == 1) return load_boxes(boxes, count);
      T each[4 * Lanes<T>::width] = {};
      for (int64_t l = 0; l < count; ++l) store_box(each + 4 * l, load_box(boxes + 4 * l * k));
      return load_boxes(each);
    };
    auto store = [&](const Box<Lanes<T>>& value, int64_t i, int64_t j, int64_t count) {
      S* boxes = static_cast<S*>(p.grad_input) + 4 * (i * k + j);
      if (k == 1) return store_boxes(value, boxes, count);
      T each[4 * Lanes<T>::width];
      store_boxes(value, each);
      for (int64_t l = 0; l < count; ++l) store_box(boxes + 4 * l * k, load_box(each + 4 * l));
    };
    each_vector<T>(executor, p.forward.n, divide_up(kGrain, k + 1), [&](int64_t i, int64_t count) {
      const auto anchors = load_boxes(static_cast<const S*>(p.forward.anchors) + 4 * i, count);
      Box<Lanes<T>> d_anchors{T(0), T(0), T(0), T(0)}, d_deltas;
      for (int64_t j = 0; j < k; ++j) {
        decode_delta_backward(load(p.forward.input, i, j, count), anchors, weights, clip,
                              load(p.grad_out, i, j, count), d_deltas, d_anchors);
        store(d_deltas, i, j, count);
      }
      store_boxes(d_anchors, static_cast<S*>(p.grad_anchors) + 4 * i, count);
    });
    return Status{};
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(encode_boxes, BoxCodecParams)
DETCORE_CPU_ENTRY(decode_boxes, BoxCodecParams)
DETCORE_CPU_ENTRY(encode_boxes_backward, BoxCodecBackwardParams)
DETCORE_CPU_ENTRY(decode_boxes_backward, BoxCodecBackwardParams)
