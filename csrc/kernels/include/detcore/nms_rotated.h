// nms_rotated, nms_3d, nms_bev, batched_nms_rotated, batched_nms_3d and batched_nms_bev:
// greedy non-maximum suppression of rotated boxes, and of boxes in space by their IoU in space or
// as seen from above, within each class if class ids are given.
//
// Boxes are visited by descending score, ties by ascending index. A box is kept unless a kept box
// of its class overlaps it with an IoU (rotated_box.h, box3d.h), rounded as box_iou returns it,
// above the threshold. A box with a number that is not finite, or with a NaN score, is never kept
// and suppresses nothing; boxes without area overlap nothing. Deterministic on every device and
// number of threads.
#pragma once

#include "detcore/box3d.h"
#include "detcore/core.h"

namespace detcore {

struct NmsRotatedParams {
  const void* boxes;     // [n, 5 or 7] as `kind` says
  const void* scores;    // [n]; CUDA with an order only tests them for NaN
  const int64_t* order;  // CUDA: as in NmsParams; CPU: unused
  const int64_t* ids;    // [n] class ids, any values; null: one class
  int64_t n;
  DType boxes_dtype, scores_dtype;
  double iou_threshold;  // >= 0
  void* workspace;       // nms_rotated_workspace_*() bytes, 64-byte aligned
  int64_t* keep;         // [n] out: kept indices by descending score; the rest is unspecified
  int64_t* count;        // [1] out: number of kept boxes (device memory on CUDA)
  RotatedKind kind;
};

// Boxes in blocks, best first: all of a block are compared with the kept ones around them, found in
// a grid over the upright boxes around the rotated ones, then one by one with those that the block
// itself keeps. Memory O(n), time O(n) if the boxes are spread out. At most 2^29 boxes.
size_t nms_rotated_workspace_cpu(const NmsRotatedParams&);
Status nms_rotated_cpu(const NmsRotatedParams&, const Executor&);

// One launch measures the boxes; the rest is nms_cuda() of the upright boxes around them, which
// compares the rotated ones where those meet. The one-block path takes up to 2,048 boxes too.
bool nms_rotated_needs_order_cuda(const NmsRotatedParams&);
size_t nms_rotated_workspace_cuda(const NmsRotatedParams&);
Status nms_rotated_cuda(const NmsRotatedParams&, Stream);

}  // namespace detcore
