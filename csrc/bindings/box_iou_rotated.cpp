// box_iou_rotated; box3d_iou, which has the same kernels, is in box3d_iou.cpp.
#include "detcore/box_iou_rotated.h"

#include "rotated_pairs.h"

namespace detcore {
namespace {

// Errors name the public function.
constexpr RotatedIou kRotatedIou{"box_iou", RotatedKind::image};

Tensor box_iou_rotated(const Tensor& boxes1, const Tensor& boxes2) {
  return kRotatedIou(boxes1, boxes2);
}

void box_iou_rotated_out(const Tensor& boxes1, const Tensor& boxes2, const Tensor& out) {
  kRotatedIou.into(boxes1, boxes2, out);
}

std::tuple<Tensor, Tensor> box_iou_rotated_backward(const Tensor& grad, const Tensor& boxes1,
                                                    const Tensor& boxes2) {
  return kRotatedIou.backward(grad, boxes1, boxes2);
}

DETCORE_OP(box_iou_rotated, "(Tensor boxes1, Tensor boxes2) -> Tensor");
DETCORE_OP(box_iou_rotated_out, "(Tensor boxes1, Tensor boxes2, Tensor(a!) out) -> ()");
DETCORE_OP(box_iou_rotated_backward,
           "(Tensor grad, Tensor boxes1, Tensor boxes2) -> (Tensor, Tensor)");

}  // namespace
}  // namespace detcore
