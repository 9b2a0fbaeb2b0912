// box_iou, generalized_box_iou, distance_box_iou and complete_box_iou (see IouKind): the overlap of
// all pairs of boxes in one pass, without temporaries.
//
// out[b, i, j] = overlap(boxes1[b, i], boxes2[b, j]). The IoU of two boxes of zero area is 0 / 0 =
// NaN, as in the formula; NaN coordinates give NaN. Deterministic: every output is computed by one
// thread, and gradients are summed in an order that does not depend on the number of threads.
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
  void* grad_boxes1;     // [batch, n, 4], out's dtype; null: not needed
  void* grad_boxes2;     // [batch, m, 4], likewise
};

// The work is divided among threads in tiles of 16 rows by 512 columns.
Status box_iou_cpu(const BoxIouParams&, const Executor&);
Status box_iou_backward_cpu(const BoxIouBackwardParams&, const Executor&);

// A block of 128 threads writes 16 rows (4 if that fills the device better) by 512 columns. The
// columns are in registers, four per thread, and the rows in shared memory. Memory traffic: 4nm
// bytes written, in 16-byte stores if m is a multiple of 4 and out is aligned; 16(n + m) bytes read
// per tile. Limited by the writes.
Status box_iou_cuda(const BoxIouParams&, Stream);
// Two kernels: one block of 128 threads per row, and one block of 512 threads per 32 columns. Both
// read grad_out along its rows, 4nm bytes each, and sum in a fixed order.
Status box_iou_backward_cuda(const BoxIouBackwardParams&, Stream);

}  // namespace detcore
