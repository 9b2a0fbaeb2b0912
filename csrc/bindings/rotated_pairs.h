// What box_iou_rotated and box3d_iou share: checks, workspace and the call of the kernels, which
// compare all pairs of boxes of any RotatedKind.
#pragma once

#include "box_pairs.h"
#include "detcore/box_iou_rotated.h"

namespace detcore {

// An op, by the name that errors give it.
struct RotatedIou {
  const char* op;
  RotatedKind kind;

  BoxPairs check(const Tensor& boxes1, const Tensor& boxes2) const {
    return check_pairs(op, boxes1, boxes2, numbers_of(kind));
  }

  BoxIouRotatedParams of_pairs(const BoxPairs& pairs, const Tensor& boxes1,
                               const Tensor& boxes2) const {
    BoxIouRotatedParams p{};
    p.batch = pairs.batch, p.n = pairs.n, p.m = pairs.m, p.dtype = pairs.dtype, p.kind = kind;
    p.boxes1 = data(boxes1), p.boxes2 = data(boxes2);
    return p;
  }

  static Tensor workspace_for(BoxIouRotatedParams& p, const Tensor& boxes) {
#if defined(DETCORE_WITH_CUDA)
    const size_t bytes =
        on_cuda(boxes) ? box_iou_rotated_workspace_cuda(p) : box_iou_rotated_workspace_cpu(p);
#else
    const size_t bytes = box_iou_rotated_workspace_cpu(p);
#endif
    Tensor workspace = allocate({int64_t(bytes)}, ScalarType::Byte, boxes);
    p.workspace = data(workspace);
    return workspace;
  }

  void run(const BoxPairs& pairs, const Tensor& a, const Tensor& b, const Tensor& out) const {
    BoxIouRotatedParams p = of_pairs(pairs, a, b);
    const Tensor workspace = workspace_for(p, a);
    p.out = data(out);
    DETCORE_RUN_AS(op, box_iou_rotated, p, a);
  }

  void into(const Tensor& boxes1, const Tensor& boxes2, const Tensor& out) const {
    const BoxPairs pairs = check(boxes1, boxes2);
    const Tensor a = dense(boxes1), b = dense(boxes2);
    check_out(op, out, pairs, a, b);
    run(pairs, a, b, out);
  }

  Tensor operator()(const Tensor& boxes1, const Tensor& boxes2) const {
    const BoxPairs pairs = check(boxes1, boxes2);
    Tensor out = allocate(pairs.out, scalar_of(result_of(pairs.dtype)), boxes1);
    run(pairs, dense(boxes1), dense(boxes2), out);
    return out;
  }

  // Returns the gradients of both inputs, in the boxes' dtype.
  std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& boxes1,
                                      const Tensor& boxes2) const {
    const BoxPairs pairs = check(boxes1, boxes2);
    check_grad(op, grad, pairs.out, boxes1);
    const ScalarType result = scalar_of(result_of(pairs.dtype));
    const Tensor a = dense(boxes1), b = dense(boxes2), g = dense(as_dtype(grad, result));
    BoxIouRotatedBackwardParams p{of_pairs(pairs, a, b), {}, {}, {}};
    const Tensor workspace = workspace_for(p.forward, a);
    Tensor grad1 = allocate(sizes_of(boxes1), result, boxes1);
    Tensor grad2 = allocate(sizes_of(boxes2), result, boxes1);
    p.grad_out = data(g), p.grad_boxes1 = data(grad1), p.grad_boxes2 = data(grad2);
    DETCORE_RUN_AS(op, box_iou_rotated_backward, p, a);
    return {as_dtype(grad1, boxes1.scalar_type()), as_dtype(grad2, boxes2.scalar_type())};
  }
};

}  // namespace detcore
