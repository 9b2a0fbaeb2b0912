// The overlap of pairs of boxes, for losses: out[i] = overlap(boxes1[i], boxes2[i]).
//
// `eps` is added to areas and lengths in divisors, so that empty boxes give 0 and not NaN. But the
// aspect ratio of a box without width and height is 0 / 0, so its CIoU is NaN. NaN coordinates give
// NaN. Deterministic: each pair is computed by one thread.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct PairedBoxIouParams {
  const void* boxes1;  // [n, 4] xyxy, pixels
  const void* boxes2;  // [n, 4]
  void* out;           // [n], f64 for f64 boxes, else f32
  int64_t n;
  DType dtype;  // of the boxes
  IouKind kind;
  double eps;
};

struct PairedBoxIouBackwardParams {
  PairedBoxIouParams forward;  // `out` unused
  const void* grad_out;        // [n], out's dtype
  void* grad_boxes1;           // [n, 4], out's dtype
  void* grad_boxes2;           // [n, 4]
};

Status paired_box_iou_cpu(const PairedBoxIouParams&, const Executor&);
Status paired_box_iou_backward_cpu(const PairedBoxIouBackwardParams&, const Executor&);
// One thread per pair, which reads 32 bytes and writes 4.
Status paired_box_iou_cuda(const PairedBoxIouParams&, Stream);
Status paired_box_iou_backward_cuda(const PairedBoxIouBackwardParams&, Stream);

}  // namespace detcore
