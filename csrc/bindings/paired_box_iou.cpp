#include "detcore/paired_box_iou.h"

#include "binding.h"

namespace detcore {
namespace {

PairedBoxIouParams check(const char* op, const Tensor& boxes1, const Tensor& boxes2,
                         const std::string& fmt, const std::string& kind, double eps) {
  const int64_t format =
      check_choice(op, "fmt", fmt, {"xyxy", "xywh", "cxcywh", "xywhr", "cxcywhr", "xyxyxyxy"});
  const bool rotated = format == 4;
  if (format != 0 && !rotated) fail(op, ": the operator takes xyxy and cxcywhr, got '", fmt, "'");
  const int64_t numbers = rotated ? 5 : 4;
  check_last(op, "boxes1", boxes1, numbers);
  check_same_shape(op, "boxes1", boxes1, "boxes2", boxes2);
  PairedBoxIouParams p{};
  p.dtype = check_float(op, "boxes1", boxes1);
  check_same_dtype(op, "boxes1", boxes1, "boxes2", boxes2);
  check_same_device(op, "boxes1", boxes1, "boxes2", boxes2);
  p.n = boxes1.numel() / numbers;
  p.rotated = rotated;
  p.kind = IouKind(rotated ? check_choice(op, "kind of rotated boxes", kind, {"iou", "giou"})
                           : check_choice(op, "kind", kind, {"iou", "giou", "diou", "ciou"}));
  check_number(op, "eps", eps);
  p.eps = eps;
  return p;
}

Tensor paired_box_iou(const Tensor& boxes1, const Tensor& boxes2, const std::string& fmt,
                      const std::string& kind, double eps) {
  PairedBoxIouParams p = check("paired_box_iou", boxes1, boxes2, fmt, kind, eps);
  Sizes shape = sizes_of(boxes1);
  shape.pop_back();
  const Tensor a = dense(boxes1), b = dense(boxes2);
  Tensor out = allocate(shape, scalar_of(result_of(p.dtype)), boxes1);
  p.boxes1 = data(a), p.boxes2 = data(b), p.out = data(out);
  DETCORE_RUN(paired_box_iou, p, boxes1);
  return out;
}

std::tuple<Tensor, Tensor> paired_box_iou_backward(const Tensor& grad, const Tensor& boxes1,
                                                   const Tensor& boxes2, const std::string& fmt,
                                                   const std::string& kind, double eps) {
  PairedBoxIouBackwardParams p{
      check("paired_box_iou_backward", boxes1, boxes2, fmt, kind, eps), {}, {}, {}};
  Sizes shape = sizes_of(boxes1);
  shape.pop_back();
  check_grad("paired_box_iou", grad, shape, boxes1);
  const ScalarType result = scalar_of(result_of(p.forward.dtype));
  const Tensor a = dense(boxes1), b = dense(boxes2), g = dense(as_dtype(grad, result));
  Tensor grad1 = allocate(sizes_of(boxes1), result, boxes1);
  Tensor grad2 = allocate(sizes_of(boxes2), result, boxes1);
  p.forward.boxes1 = data(a), p.forward.boxes2 = data(b), p.grad_out = data(g);
  p.grad_boxes1 = data(grad1), p.grad_boxes2 = data(grad2);
  DETCORE_RUN(paired_box_iou_backward, p, boxes1);
  return {as_dtype(grad1, boxes1.scalar_type()), as_dtype(grad2, boxes2.scalar_type())};
}

DETCORE_OP(paired_box_iou,
           "(Tensor boxes1, Tensor boxes2, str fmt, str kind, float eps) -> Tensor");
DETCORE_OP(paired_box_iou_backward,
           "(Tensor grad, Tensor boxes1, Tensor boxes2, str fmt, str kind, float eps) -> (Tensor, "
           "Tensor)");

}  // namespace
}  // namespace detcore
