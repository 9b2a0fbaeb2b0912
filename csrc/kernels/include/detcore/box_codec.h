// encode_boxes and decode_boxes: the delta codec of R-CNN and SSD. It converts boxes to deltas
// relative to anchors, and back.
//
// encode: dx = wx (bx - ax) / aw, dw = ww log(bw / aw). decode is its inverse, with the log sizes
// limited to `clip` so that exp cannot overflow. Deterministic; NaN gives NaN.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct BoxCodecParams {
  const void* input;    // encode: boxes [n, 4] xyxy; decode: deltas [n, k, 4]
  const void* anchors;  // [n, 4] xyxy
  void* out;            // shape and dtype of `input`
  int64_t n, k;         // encode has k = 1
  DType dtype;          // of all three
  double weights[4];
  double clip;  // decode only
};

struct BoxCodecBackwardParams {
  BoxCodecParams forward;  // `out` unused
  const void* grad_out;    // shape of `out`
  void* grad_input;        // shape of `input`
  void* grad_anchors;      // shape of `anchors`; summed over k in order
};

Status encode_boxes_cpu(const BoxCodecParams&, const Executor&);
Status decode_boxes_cpu(const BoxCodecParams&, const Executor&);
Status encode_boxes_backward_cpu(const BoxCodecBackwardParams&, const Executor&);
Status decode_boxes_backward_cpu(const BoxCodecBackwardParams&, const Executor&);
// Forward: one thread per delta. Backward: one thread per anchor, which sums its k deltas in order.
// Accesses have 16 bytes; each box is read once and written once.
Status encode_boxes_cuda(const BoxCodecParams&, Stream);
Status decode_boxes_cuda(const BoxCodecParams&, Stream);
Status encode_boxes_backward_cuda(const BoxCodecBackwardParams&, Stream);
Status decode_boxes_backward_cuda(const BoxCodecBackwardParams&, Stream);

}  // namespace detcore
