#include "detcore/box_iou.h"

#include "box_pairs.h"

namespace detcore {
namespace {

const char* name_of(IouKind kind) {
  switch (kind) {
    case IouKind::iou: return "box_iou";
    case IouKind::giou: return "generalized_box_iou";
    case IouKind::diou: return "distance_box_iou";
    case IouKind::ciou: return "complete_box_iou";
  }
  return "box_iou";
}

// Error messages name the public function of the kind.
BoxIouParams check(const Tensor& boxes1, const Tensor& boxes2, const std::string& fmt,
                   const std::string& kind, double eps, BoxPairs& pairs) {
  BoxIouParams p{};
  p.kind = IouKind(check_choice("box_iou", "kind", kind, {"iou", "giou", "diou", "ciou"}));
  const char* op = name_of(p.kind);
  pairs = check_pairs(op, boxes1, boxes2, 4);
  p.batch = pairs.batch, p.n = pairs.n, p.m = pairs.m, p.dtype = pairs.dtype;
  const int64_t format =
      check_choice(op, "fmt", fmt, {"xyxy", "xywh", "cxcywh", "xywhr", "cxcywhr", "xyxyxyxy"});
  if (format > int64_t(BoxFormat::cxcywh)) fail(op, ": rotated boxes go to box_iou_rotated");
  p.format = BoxFormat(format);
  check_number(op, "eps", eps);
  p.eps = eps;
  return p;
}

void box_iou_out(const Tensor& boxes1, const Tensor& boxes2, const std::string& fmt,
                 const std::string& kind, double eps, const Tensor& out) {
  BoxPairs pairs;
  BoxIouParams p = check(boxes1, boxes2, fmt, kind, eps, pairs);
  const Tensor a = dense(boxes1), b = dense(boxes2);
  check_out(name_of(p.kind), out, pairs, a, b);
  p.boxes1 = data(a), p.boxes2 = data(b), p.out = data(out);
  DETCORE_RUN(box_iou, p, boxes1);
}

Tensor box_iou(const Tensor& boxes1, const Tensor& boxes2, const std::string& fmt,
               const std::string& kind, double eps) {
  BoxPairs pairs;
  BoxIouParams p = check(boxes1, boxes2, fmt, kind, eps, pairs);
  const Tensor a = dense(boxes1), b = dense(boxes2);
  Tensor out = allocate(pairs.out, scalar_of(result_of(p.dtype)), boxes1);
  p.boxes1 = data(a), p.boxes2 = data(b), p.out = data(out);
  DETCORE_RUN(box_iou, p, boxes1);
  return out;
}

// Returns the gradients of both inputs, in the boxes' dtype.
std::tuple<Tensor, Tensor> box_iou_backward(const Tensor& grad, const Tensor& boxes1,
                                            const Tensor& boxes2, const std::string& kind,
                                            double eps) {
  BoxPairs pairs;
  BoxIouBackwardParams p{check(boxes1, boxes2, "xyxy", kind, eps, pairs), {}, {}, {}};
  check_grad(name_of(p.forward.kind), grad, pairs.out, boxes1);
  const ScalarType result = scalar_of(result_of(p.forward.dtype));
  const Tensor a = dense(boxes1), b = dense(boxes2), g = dense(as_dtype(grad, result));
  Tensor grad1 = allocate(sizes_of(boxes1), result, boxes1);
  Tensor grad2 = allocate(sizes_of(boxes2), result, boxes1);
  p.forward.boxes1 = data(a), p.forward.boxes2 = data(b), p.grad_out = data(g);
  p.grad_boxes1 = data(grad1), p.grad_boxes2 = data(grad2);
  DETCORE_RUN(box_iou_backward, p, boxes1);
  return {as_dtype(grad1, boxes1.scalar_type()), as_dtype(grad2, boxes2.scalar_type())};
}

DETCORE_OP(box_iou, "(Tensor boxes1, Tensor boxes2, str fmt, str kind, float eps) -> Tensor");
DETCORE_OP(box_iou_out,
           "(Tensor boxes1, Tensor boxes2, str fmt, str kind, float eps, Tensor(a!) out) -> ()");
DETCORE_OP(box_iou_backward,
           "(Tensor grad, Tensor boxes1, Tensor boxes2, str kind, float eps) -> (Tensor, Tensor)");

}  // namespace
}  // namespace detcore
