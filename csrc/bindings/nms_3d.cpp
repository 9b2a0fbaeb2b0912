// nms_3d and nms_bev, batched_nms_3d and batched_nms_bev: the kernels of nms_rotated.
#include "detcore/nms_rotated.h"
#include "kept_boxes.h"

namespace detcore {
namespace {

constexpr NmsKernels<NmsRotatedParams> kNms3d = DETCORE_NMS_KERNELS(nms_rotated);

Tensor suppress_3d(const char* op, RotatedKind kind, const Tensor& boxes, const Tensor& scores,
                   const std::optional<Tensor>& idxs, double iou_threshold) {
  NmsRotatedParams p{};
  p.kind = kind;
  return suppress(op, kNms3d, numbers_of(kind), boxes, scores, idxs, iou_threshold, p);
}

Tensor nms_3d(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return suppress_3d("nms_3d", RotatedKind::in_space, boxes, scores, {}, iou_threshold);
}

Tensor batched_nms_3d(const Tensor& boxes, const Tensor& scores, const Tensor& idxs,
                      double iou_threshold) {
  return suppress_3d("batched_nms_3d", RotatedKind::in_space, boxes, scores, idxs, iou_threshold);
}

Tensor nms_bev(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return suppress_3d("nms_bev", RotatedKind::from_above, boxes, scores, {}, iou_threshold);
}

Tensor batched_nms_bev(const Tensor& boxes, const Tensor& scores, const Tensor& idxs,
                       double iou_threshold) {
  return suppress_3d("batched_nms_bev", RotatedKind::from_above, boxes, scores, idxs,
                     iou_threshold);
}

DETCORE_OP(nms_3d, "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
DETCORE_OP(batched_nms_3d,
           "(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor");
DETCORE_OP(nms_bev, "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
DETCORE_OP(batched_nms_bev,
           "(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor");

}  // namespace
}  // namespace detcore
