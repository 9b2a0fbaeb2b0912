// box3d_iou, which is bev_iou where from_above is set: the kernels of box_iou_rotated.
#include "detcore/box_iou_rotated.h"
#include "rotated_pairs.h"

namespace detcore {
namespace {

RotatedIou iou_of_space(bool from_above) {
  return from_above ? RotatedIou{"bev_iou", RotatedKind::from_above}
                    : RotatedIou{"box3d_iou", RotatedKind::in_space};
}

Tensor box3d_iou(const Tensor& boxes1, const Tensor& boxes2, bool from_above) {
  return iou_of_space(from_above)(boxes1, boxes2);
}

void box3d_iou_out(const Tensor& boxes1, const Tensor& boxes2, bool from_above, const Tensor& out) {
  iou_of_space(from_above).into(boxes1, boxes2, out);
}

std::tuple<Tensor, Tensor> box3d_iou_backward(const Tensor& grad, const Tensor& boxes1,
                                              const Tensor& boxes2, bool from_above) {
  return iou_of_space(from_above).backward(grad, boxes1, boxes2);
}

DETCORE_OP(box3d_iou, "(Tensor boxes1, Tensor boxes2, bool from_above) -> Tensor");
DETCORE_OP(box3d_iou_out, "(Tensor boxes1, Tensor boxes2, bool from_above, Tensor(a!) out) -> ()");
DETCORE_OP(box3d_iou_backward,
           "(Tensor grad, Tensor boxes1, Tensor boxes2, bool from_above) -> (Tensor, Tensor)");

}  // namespace
}  // namespace detcore
