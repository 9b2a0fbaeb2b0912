// encode_boxes and decode_boxes: the delta codec of R-CNN and SSD, boxes to deltas against anchors,
// and back.
//
// encode: dx = wx (bx - ax) / aw, dw = ww log(bw / aw). decode is its inverse, with the log sizes
// cut at `clip` from above so that exp cannot overflow. Deterministic; NaN gives NaN.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct BoxCodecParams {
  const void* input;    // encode: boxes [n, 4] xyxy; decode: deltas [n, k, 4]
  const void* anchors;  // [n, 4] xyxy
  void* out;            // as `input`, in its dtype
  int64_t n, k;         // encode has k = 1
  DType dtype;          // of all three
  double weights[4];
  double clip;  // decode alone
};

struct BoxCodecBackwardParams {
  BoxCodecParams forward;  // `out` unused
  const void* grad_out;    // as `out`
  void* grad_input;        // as `input`
  void* grad_anchors;      // as `anchors`; summed over k in order
};

Status encode_boxes_cpu(const BoxCodecParams&, const Executor&);
Status decode_boxes_cpu(const BoxCodecParams&, const Executor&);
Status encode_boxes_backward_cpu(const BoxCodecBackwardParams&, const Executor&);
Status decode_boxes_backward_cpu(const BoxCodecBackwardParams&, const Executor&);
// Forward: a thread a delta; backward: a thread an anchor, which sums its k deltas in order. Boxes
// move by 16 bytes; each is read once and written once.
Status encode_boxes_cuda(const BoxCodecParams&, Stream);
Status decode_boxes_cuda(const BoxCodecParams&, Stream);
Status encode_boxes_backward_cuda(const BoxCodecBackwardParams&, Stream);
Status decode_boxes_backward_cuda(const BoxCodecBackwardParams&, Stream);

}  // namespace detcore
