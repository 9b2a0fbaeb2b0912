// The overlap of pairs of boxes, for losses: out[i] = overlap(boxes1[i], boxes2[i]). Upright boxes
// by box.h, rotated ones by rotated_pair.h.
//
// `eps` is added to areas and lengths in divisors, so that empty boxes give 0 and not NaN. But the
// aspect ratio of a box without width and height is 0 / 0, so its CIoU is NaN. NaN coordinates give
// NaN. A side of a rotated box that is not positive counts as 0 and has no gradient. Deterministic:
// each pair is computed by one thread.
#pragma once

#include "detcore/core.h"
#include "detcore/rotated_pair.h"

namespace detcore {

struct PairedBoxIouParams {
  const void* boxes1;  // [n, 4] xyxy, pixels; rotated: [n, 5] centre, width, height, degrees
  const void* boxes2;  // likewise
  void* out;           // [n], f64 for f64 boxes, else f32
  int64_t n;
  bool rotated;
  DType dtype;   // of the boxes
  IouKind kind;  // rotated: iou or giou
  double eps;
};

struct PairedBoxIouBackwardParams {
  PairedBoxIouParams forward;  // `out` unused
  const void* grad_out;        // [n], out's dtype
  void* grad_boxes1;           // shape of boxes1, out's dtype
  void* grad_boxes2;           // likewise
};

// One pair per lane; rotated boxes in double.
Status paired_box_iou_cpu(const PairedBoxIouParams&, const Executor&);
Status paired_box_iou_backward_cpu(const PairedBoxIouBackwardParams&, const Executor&);
// One thread per pair, which reads 32 bytes and writes 4 (rotated: 40). Limited by memory; rotated
// boxes by about 300 operations per pair, 40 of them in double.
Status paired_box_iou_cuda(const PairedBoxIouParams&, Stream);
Status paired_box_iou_backward_cuda(const PairedBoxIouBackwardParams&, Stream);

}  // namespace detcore
