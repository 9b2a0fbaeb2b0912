// box_iou_rotated and box3d_iou: the IoU of all pairs of rotated boxes (rotated_box.h), and of
// boxes in space (box3d.h), as seen from above or in space.
//
// out[b, i, j] = area (or volume) of the intersection / that of the union. Symmetric to the last
// bit, in 0..1, and 1 for equal boxes. Boxes without positive sides overlap nothing: 0. A number
// that is not finite gives NaN. Deterministic: every output is computed by one thread, and
// gradients are summed in an order that does not depend on the number of threads.
#pragma once

#include "detcore/box3d.h"
#include "detcore/core.h"

namespace detcore {

struct BoxIouRotatedParams {
  const void* boxes1;  // [batch, n, 5 or 7] as `kind` says
  const void* boxes2;  // [batch, m, 5 or 7]
  void* out;           // [batch, n, m], f64 for f64 boxes, else f32
  void* workspace;     // box_iou_rotated_workspace_*() bytes, 64-byte aligned
  int64_t batch, n, m;
  DType dtype;  // of the boxes
  RotatedKind kind;
};

struct BoxIouRotatedBackwardParams {
  BoxIouRotatedParams forward;  // `out` unused
  const void* grad_out;         // [batch, n, m], out's dtype
  void* grad_boxes1;            // [batch, n, 5 or 7], out's dtype
  void* grad_boxes2;            // [batch, m, 5 or 7], likewise
};

// Measures all boxes, then compares them in tiles of 16 rows by 256 columns, in double. Pairs whose
// circles are apart cost a comparison, all others about a hundred operations.
size_t box_iou_rotated_workspace_cpu(const BoxIouRotatedParams&);
Status box_iou_rotated_cpu(const BoxIouRotatedParams&, const Executor&);
Status box_iou_rotated_backward_cpu(const BoxIouRotatedBackwardParams&, const Executor&);

// Two launches: measure all boxes; then a block of 128 threads writes 16 rows by 128 columns.
// Clipping is in float for all dtypes but f64. Memory traffic: 4nm bytes written, and 48 bytes
// (f64: 80; in space 56 and 96) read per box and tile. Limited by arithmetic where boxes overlap,
// else by the writes.
size_t box_iou_rotated_workspace_cuda(const BoxIouRotatedParams&);
Status box_iou_rotated_cuda(const BoxIouRotatedParams&, Stream);
// Three launches: measure; one block of 128 threads per row; one of 512 threads per 32 columns.
Status box_iou_rotated_backward_cuda(const BoxIouRotatedBackwardParams&, Stream);

}  // namespace detcore
