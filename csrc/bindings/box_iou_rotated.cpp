#include "detcore/box_iou_rotated.h"

#include "box_pairs.h"

namespace detcore {
namespace {

// Errors name the public function.
constexpr const char* kBoxIou = "box_iou";

BoxIouRotatedParams of_pairs(const BoxPairs& pairs, const Tensor& boxes1, const Tensor& boxes2) {
  BoxIouRotatedParams p{};
  p.batch = pairs.batch, p.n = pairs.n, p.m = pairs.m, p.dtype = pairs.dtype;
  p.boxes1 = data(boxes1), p.boxes2 = data(boxes2);
  return p;
}

Tensor workspace_for(BoxIouRotatedParams& p, const Tensor& boxes) {
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

void run(const BoxPairs& pairs, const Tensor& a, const Tensor& b, const Tensor& out) {
  BoxIouRotatedParams p = of_pairs(pairs, a, b);
  const Tensor workspace = workspace_for(p, a);
  p.out = data(out);
  DETCORE_RUN_AS(kBoxIou, box_iou_rotated, p, a);
}

void box_iou_rotated_out(const Tensor& boxes1, const Tensor& boxes2, const Tensor& out) {
  const BoxPairs pairs = check_pairs(kBoxIou, boxes1, boxes2, 5);
  const Tensor a = dense(boxes1), b = dense(boxes2);
  check_out(kBoxIou, out, pairs, a, b);
  run(pairs, a, b, out);
}

Tensor box_iou_rotated(const Tensor& boxes1, const Tensor& boxes2) {
  const BoxPairs pairs = check_pairs(kBoxIou, boxes1, boxes2, 5);
  Tensor out = allocate(pairs.out, scalar_of(result_of(pairs.dtype)), boxes1);
  run(pairs, dense(boxes1), dense(boxes2), out);
  return out;
}

// Returns the gradients of both inputs, in the boxes' dtype.
std::tuple<Tensor, Tensor> box_iou_rotated_backward(const Tensor& grad, const Tensor& boxes1,
                                                    const Tensor& boxes2) {
  const BoxPairs pairs = check_pairs(kBoxIou, boxes1, boxes2, 5);
  check_grad(kBoxIou, grad, pairs.out, boxes1);
  const ScalarType result = scalar_of(result_of(pairs.dtype));
  const Tensor a = dense(boxes1), b = dense(boxes2), g = dense(as_dtype(grad, result));
  BoxIouRotatedBackwardParams p{of_pairs(pairs, a, b), {}, {}, {}};
  const Tensor workspace = workspace_for(p.forward, a);
  Tensor grad1 = allocate(sizes_of(boxes1), result, boxes1);
  Tensor grad2 = allocate(sizes_of(boxes2), result, boxes1);
  p.grad_out = data(g), p.grad_boxes1 = data(grad1), p.grad_boxes2 = data(grad2);
  DETCORE_RUN_AS(kBoxIou, box_iou_rotated_backward, p, a);
  return {as_dtype(grad1, boxes1.scalar_type()), as_dtype(grad2, boxes2.scalar_type())};
}

DETCORE_OP(box_iou_rotated, "(Tensor boxes1, Tensor boxes2) -> Tensor");
DETCORE_OP(box_iou_rotated_out, "(Tensor boxes1, Tensor boxes2, Tensor(a!) out) -> ()");
DETCORE_OP(box_iou_rotated_backward,
           "(Tensor grad, Tensor boxes1, Tensor boxes2) -> (Tensor, Tensor)");

}  // namespace
}  // namespace detcore
