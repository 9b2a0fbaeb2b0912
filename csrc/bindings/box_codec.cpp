// encode_boxes and decode_boxes, forward and backward.
#include "detcore/box_codec.h"

#include "binding.h"

namespace detcore {
namespace {

BoxCodecParams check(const char* op, const char* name, const Tensor& input, const Tensor& anchors,
                     const std::vector<double>& weights) {
  check_rows(op, "anchors", anchors, 4);
  if (input.dim() != 2 || input.size(1) % 4 != 0 || input.size(0) != anchors.size(0))
    fail(op, ": ", name, " must be [", anchors.size(0), ", 4k], one row per anchor, got ",
         shape_of(input));
  if (weights.size() != 4) fail(op, ": weights must be 4 numbers, got ", int64_t(weights.size()));
  for (double w : weights)
    if (!(w > 0)) fail(op, ": weights must be positive, got ", w);
  BoxCodecParams p{};
  p.dtype = check_float(op, name, input);
  check_same_dtype(op, name, input, "anchors", anchors);
  check_same_device(op, name, input, "anchors", anchors);
  p.n = input.size(0), p.k = input.size(1) / 4;
  for (int i = 0; i < 4; ++i) p.weights[i] = weights[i];
  return p;
}

Tensor encode_boxes(const Tensor& boxes, const Tensor& anchors,
                    const std::vector<double>& weights) {
  check_rows("encode_boxes", "boxes", boxes, 4);
  BoxCodecParams p = check("encode_boxes", "boxes", boxes, anchors, weights);
  const Tensor b = dense(boxes), a = dense(anchors);
  Tensor out = allocate(sizes_of(boxes), boxes.scalar_type(), boxes);
  p.input = data(b), p.anchors = data(a), p.out = data(out);
  DETCORE_RUN(encode_boxes, p, boxes);
  return out;
}

Tensor decode_boxes(const Tensor& deltas, const Tensor& anchors, const std::vector<double>& weights,
                    double clip) {
  BoxCodecParams p = check("decode_boxes", "deltas", deltas, anchors, weights);
  check_number("decode_boxes", "clip", clip);
  const Tensor d = dense(deltas), a = dense(anchors);
  Tensor out = allocate(sizes_of(deltas), deltas.scalar_type(), deltas);
  p.input = data(d), p.anchors = data(a), p.out = data(out), p.clip = clip;
  DETCORE_RUN(decode_boxes, p, deltas);
  return out;
}

// Runs one of the two backward kernels, whose parameters are the same.
template <class Run>
std::tuple<Tensor, Tensor> backward(BoxCodecParams forward, const Tensor& grad, const Tensor& input,
                                    const Tensor& anchors, const Run& run) {
  check_grad("box_codec", grad, sizes_of(input), input);
  BoxCodecBackwardParams p{forward, {}, {}, {}};
  const Tensor i = dense(input), a = dense(anchors), g = dense(as_dtype(grad, input.scalar_type()));
  Tensor grad_input = allocate(sizes_of(input), input.scalar_type(), input);
  Tensor grad_anchors = allocate(sizes_of(anchors), input.scalar_type(), input);
  p.forward.input = data(i), p.forward.anchors = data(a), p.grad_out = data(g);
  p.grad_input = data(grad_input), p.grad_anchors = data(grad_anchors);
  run(p);
  return {grad_input, grad_anchors};
}

std::tuple<Tensor, Tensor> encode_boxes_backward(const Tensor& grad, const Tensor& boxes,
                                                 const Tensor& anchors,
                                                 const std::vector<double>& weights) {
  const auto forward = check("encode_boxes_backward", "boxes", boxes, anchors, weights);
  check_rows("encode_boxes_backward", "boxes", boxes, 4);
  return backward(forward, grad, boxes, anchors, [&](const BoxCodecBackwardParams& p) {
    DETCORE_RUN(encode_boxes_backward, p, boxes);
  });
}

std::tuple<Tensor, Tensor> decode_boxes_backward(const Tensor& grad, const Tensor& deltas,
                                                 const Tensor& anchors,
                                                 const std::vector<double>& weights, double clip) {
  auto forward = check("decode_boxes_backward", "deltas", deltas, anchors, weights);
  forward.clip = clip;
  return backward(forward, grad, deltas, anchors, [&](const BoxCodecBackwardParams& p) {
    DETCORE_RUN(decode_boxes_backward, p, deltas);
  });
}

DETCORE_OP(encode_boxes, "(Tensor boxes, Tensor anchors, float[] weights) -> Tensor");
DETCORE_OP(decode_boxes, "(Tensor deltas, Tensor anchors, float[] weights, float clip) -> Tensor");
DETCORE_OP(encode_boxes_backward,
           "(Tensor grad, Tensor boxes, Tensor anchors, float[] weights) -> (Tensor, Tensor)");
DETCORE_OP(decode_boxes_backward,
           "(Tensor grad, Tensor deltas, Tensor anchors, float[] weights, float clip) -> (Tensor, "
           "Tensor)");

}  // namespace
}  // namespace detcore
