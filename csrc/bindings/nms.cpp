// nms and batched_nms, which differ only in the class ids.
#include "detcore/nms.h"

#include "kept_boxes.h"

namespace detcore {
namespace {

constexpr NmsKernels<NmsParams> kNms = DETCORE_NMS_KERNELS(nms);

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return suppress("nms", kNms, 4, boxes, scores, std::nullopt, iou_threshold);
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs,
                   double iou_threshold) {
  return suppress("batched_nms", kNms, 4, boxes, scores, idxs, iou_threshold);
}

DETCORE_OP(nms, "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
DETCORE_OP(batched_nms,
           "(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor");

}  // namespace
}  // namespace detcore
