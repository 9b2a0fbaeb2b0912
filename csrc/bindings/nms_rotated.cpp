// nms_rotated and batched_nms_rotated; nms_3d, nms_bev, batched_nms_3d and batched_nms_bev, which
// have the same kernels, are in nms_3d.cpp.
#include "detcore/nms_rotated.h"

#include "kept_boxes.h"

namespace detcore {
namespace {

constexpr NmsKernels<NmsRotatedParams> kNmsRotated = DETCORE_NMS_KERNELS(nms_rotated);

Tensor nms_rotated(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return suppress("nms_rotated", kNmsRotated, 5, boxes, scores, std::nullopt, iou_threshold);
}

Tensor batched_nms_rotated(const Tensor& boxes, const Tensor& scores, const Tensor& idxs,
                           double iou_threshold) {
  return suppress("batched_nms_rotated", kNmsRotated, 5, boxes, scores, idxs, iou_threshold);
}

DETCORE_OP(nms_rotated, "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
DETCORE_OP(batched_nms_rotated,
           "(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor");

}  // namespace
}  // namespace detcore
