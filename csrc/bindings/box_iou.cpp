#include "detcore/box_iou.h"

#include "binding.h"

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

bool share_memory(const Tensor& a, size_t a_bytes, const Tensor& b, size_t b_bytes) {
  const char* a0 = data<const char>(a);
  const char* b0 = data<const char>(b);
  return a_bytes && b_bytes && a0 < b0 + b_bytes && b0 < a0 + a_bytes;
}

// Error messages name the public function of the kind.
BoxIouParams check(const Tensor& boxes1, const Tensor& boxes2, const std::string& fmt,
                   const std::string& kind, double eps) {
  BoxIouParams p{};
  p.kind = IouKind(check_choice("box_iou", "kind", kind, {"iou", "giou", "diou", "ciou"}));
  const char* op = name_of(p.kind);
  check_last(op, "boxes1", boxes1, 4);
  check_last(op, "boxes2", boxes2, 4);
  if (boxes1.dim() < 2) fail(op, ": boxes1 must be [..., N, 4], got ", shape_of(boxes1));
  if (boxes2.dim() < 2) fail(op, ": boxes2 must be [..., M, 4], got ", shape_of(boxes2));
  const Sizes a = sizes_of(boxes1), b = sizes_of(boxes2);
  if (Sizes(a.begin(), a.end() - 2) != Sizes(b.begin(), b.end() - 2))
    fail(op, ": boxes1 and boxes2 must have the same leading dimensions, got ", shape_of(boxes1),
         " and ", shape_of(boxes2));
  p.dtype = check_float(op, "boxes1", boxes1);
  check_same_dtype(op, "boxes1", boxes1, "boxes2", boxes2);
  check_same_device(op, "boxes1", boxes1, "boxes2", boxes2);
  p.batch = 1;
  for (size_t d = 0; d + 2 < a.size(); ++d) p.batch *= a[d];
  p.n = a[a.size() - 2], p.m = b[b.size() - 2];
  p.format = BoxFormat(check_choice(op, "fmt", fmt, {"xyxy", "xywh", "cxcywh"}));
  check_number(op, "eps", eps);
  p.eps = eps;
  return p;
}

Sizes out_shape(const Tensor& boxes1, const BoxIouParams& p) {
  Sizes shape = sizes_of(boxes1);
  shape.back() = p.m;
  return shape;
}

void box_iou_out(const Tensor& boxes1, const Tensor& boxes2, const std::string& fmt,
                 const std::string& kind, double eps, const Tensor& out) {
  BoxIouParams p = check(boxes1, boxes2, fmt, kind, eps);
  const char* op = name_of(p.kind);
  const Sizes wanted = out_shape(boxes1, p);
  if (sizes_of(out) != wanted || !out.is_contiguous())
    fail(op, ": out must be a contiguous ", shape_of(wanted), ", got ", shape_of(out),
         out.is_contiguous() ? "" : ", not contiguous");
  if (out.scalar_type() != scalar_of(result_of(p.dtype)))
    fail(op, ": out must be ", p.dtype == DType::f64 ? "float64" : "float32", ", got ",
         dtype_of(out));
  check_same_device(op, "boxes1", boxes1, "out", out);
  const Tensor a = dense(boxes1), b = dense(boxes2);
  const size_t box = 4 * size_of(p.dtype), bytes = out.numel() * size_of(result_of(p.dtype));
  if (share_memory(out, bytes, a, p.batch * p.n * box) ||
      share_memory(out, bytes, b, p.batch * p.m * box))
    fail(op, ": out must not share memory with the boxes");
  p.boxes1 = data(a), p.boxes2 = data(b), p.out = data(out);
  DETCORE_RUN(box_iou, p, boxes1);
}

Tensor box_iou(const Tensor& boxes1, const Tensor& boxes2, const std::string& fmt,
               const std::string& kind, double eps) {
  BoxIouParams p = check(boxes1, boxes2, fmt, kind, eps);
  const Tensor a = dense(boxes1), b = dense(boxes2);
  Tensor out = allocate(out_shape(boxes1, p), scalar_of(result_of(p.dtype)), boxes1);
  p.boxes1 = data(a), p.boxes2 = data(b), p.out = data(out);
  DETCORE_RUN(box_iou, p, boxes1);
  return out;
}

// Returns the gradients of both inputs, in the boxes' dtype.
std::tuple<Tensor, Tensor> box_iou_backward(const Tensor& grad, const Tensor& boxes1,
                                            const Tensor& boxes2, const std::string& kind,
                                            double eps) {
  BoxIouBackwardParams p{check(boxes1, boxes2, "xyxy", kind, eps), {}, {}, {}};
  check_grad(name_of(p.forward.kind), grad, out_shape(boxes1, p.forward), boxes1);
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
