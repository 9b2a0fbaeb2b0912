// box_iou and its kin generalized_, distance_ and complete_box_iou (IouKind): pairwise overlap of
// boxes in one pass, no temporaries.
//
// out[b, i, j] = overlap(boxes1[b, i], boxes2[b, j]). Two boxes of zero area give 0 / 0 = NaN in
// IoU, as the formula has it; NaN coordinates give NaN. Deterministic: every output is computed by
// one thread; gradients are summed in a fixed order, whatever the number of threads.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct BoxIouParams {
  const void* boxes1;  // [batch, n, 4] in `format`, pixels
  const void* boxes2;  // [batch, m, 4]
  void* out;           // [batch, n, m], f64 for f64 boxes, else f32
  int64_t batch, n, m;
  DType dtype;  // of the boxes
  BoxFormat format;
  IouKind kind;
  double eps;  // added to DIoU's squared diagonal and in CIoU's weight
};

struct BoxIouBackwardParams {
  BoxIouParams forward;  // `out` unused; format xyxy
  const void* grad_out;  // [batch, n, m], out's dtype
  void* grad_boxes1;     // [batch, n, 4], out's dtype; null: not asked for
  void* grad_boxes2;     // [batch, m, 4], likewise
};

// Threads share out tiles of 16 rows by 512 columns.
Status box_iou_cpu(const BoxIouParams&, const Executor&);
Status box_iou_backward_cpu(const BoxIouBackwardParams&, const Executor&);

// A block of 128 threads writes 16 rows (4 where that fills the device better) by 512 columns: its
// columns in registers, four a thread, its rows in shared memory. Bytes moved: 4nm out, in 16-byte
// stores where m is a multiple of 4 and out is aligned, 16(n + m) in for each tile. Bound by
// writes.
Status box_iou_cuda(const BoxIouParams&, Stream);
// A block a row of 128 threads; then a block 32 columns of 512: both read grad_out along its rows,
// 4nm bytes each, and sum by a fixed tree.
Status box_iou_backward_cuda(const BoxIouBackwardParams&, Stream);

}  // namespace detcore
