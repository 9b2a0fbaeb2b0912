#include "detcore/match_boxes.h"

#include "binding.h"

namespace detcore {
namespace {

// Returns the number of images. The values are checked only on the CPU, because on a GPU reading
// them would be a host-device sync.
int64_t check_offsets(const char* name, const Tensor& offsets, const char* boxes_name,
                      const Tensor& boxes) {
  const char* op = "match_boxes";
  if (offsets.dim() != 1 || offsets.size(0) == 0)
    fail(op, ": ", name, " must be [images + 1], got ", shape_of(offsets));
  if (offsets.scalar_type() != ScalarType::Long)
    fail(op, ": ", name, " must be int64, got ", dtype_of(offsets));
  check_same_device(op, boxes_name, boxes, name, offsets);
  const int64_t images = offsets.size(0) - 1, rows = boxes.size(0);
  if (!on_cuda(offsets)) {
    const Tensor o = dense(offsets);
    const int64_t* at = data<const int64_t>(o);
    bool fine = at[0] == 0 && at[images] == rows;
    for (int64_t i = 0; i < images; ++i) fine &= at[i] <= at[i + 1];
    if (!fine)
      fail(op, ": ", name, " must ascend from 0 to ", rows, ", the number of ", boxes_name,
           ", got ", shape_of(Sizes(at, at + images + 1)));
  }
  return images;
}

using Matches = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;

// Returns gt_of_anchor, iou_of_anchor, anchor_of_gt, iou_of_gt, is_best_for_some_gt.
Matches match_boxes(const Tensor& gt, const Tensor& anchors,
                    const std::optional<Tensor>& gt_offsets,
                    const std::optional<Tensor>& anchor_offsets) {
  const char* op = "match_boxes";
  MatchBoxesParams p{};
  p.rotated = gt.dim() == 2 && gt.size(1) == 5;
  check_rows(op, "gt", gt, p.rotated ? 5 : 4);
  check_rows(op, "anchors", anchors, p.rotated ? 5 : 4);
  p.dtype = check_float(op, "gt", gt);
  check_same_dtype(op, "gt", gt, "anchors", anchors);
  check_same_device(op, "gt", gt, "anchors", anchors);
  p.m = gt.size(0), p.n = anchors.size(0), p.images = 1;
  if (anchor_offsets && !gt_offsets)
    fail(op, ": gt_offsets must be given where anchor_offsets is, got None");
  if (gt_offsets) p.images = check_offsets("gt_offsets", *gt_offsets, "gt", gt);
  if (anchor_offsets) {
    const int64_t images = check_offsets("anchor_offsets", *anchor_offsets, "anchors", anchors);
    if (images != p.images)
      fail(op, ": anchor_offsets must be [", p.images + 1, "], as gt_offsets is, got ",
           shape_of(*anchor_offsets));
  }

  const Tensor g = dense(gt), a = dense(anchors);
  const std::optional<Tensor> gt_at = gt_offsets ? std::optional(dense(*gt_offsets)) : std::nullopt;
  const std::optional<Tensor> anchor_at =
      anchor_offsets ? std::optional(dense(*anchor_offsets)) : std::nullopt;
  p.gt = data(g), p.anchors = data(a);
  p.gt_offsets = gt_at ? data<const int64_t>(*gt_at) : nullptr;
  p.anchor_offsets = anchor_at ? data<const int64_t>(*anchor_at) : nullptr;

  const ScalarType result = scalar_of(result_of(p.dtype));
  const Sizes per_anchor = gt_offsets && !anchor_offsets ? Sizes{p.images, p.n} : Sizes{p.n};
  Matches out{allocate(per_anchor, ScalarType::Long, gt), allocate(per_anchor, result, gt),
              allocate({p.m}, ScalarType::Long, gt), allocate({p.m}, result, gt),
              allocate(per_anchor, ScalarType::Bool, gt)};
  p.gt_of_anchor = data<int64_t>(std::get<0>(out));
  p.iou_of_anchor = data(std::get<1>(out));
  p.anchor_of_gt = data<int64_t>(std::get<2>(out));
  p.iou_of_gt = data(std::get<3>(out));
  p.is_best_for_some_gt = data<bool>(std::get<4>(out));
  size_t bytes = match_boxes_workspace_cpu(p);
#if defined(DETCORE_WITH_CUDA)
  if (on_cuda(gt)) bytes = match_boxes_workspace_cuda(p);
#endif
  Tensor workspace = allocate({int64_t(bytes)}, ScalarType::Byte, gt);
  p.workspace = data(workspace);
  DETCORE_RUN(match_boxes, p, gt);
  return out;
}

DETCORE_OP(match_boxes,
           "(Tensor gt, Tensor anchors, Tensor? gt_offsets, Tensor? anchor_offsets) -> "
           "(Tensor, Tensor, Tensor, Tensor, Tensor)");

}  // namespace
}  // namespace detcore
