// Anchors matched with ground truths by IoU, both ways at once, without ever holding the matrix.
//
// For every anchor the ground truth of the highest IoU, for every ground truth the anchor of the
// highest, both with the lowest index of equal ones; and whether an anchor ties the best IoU of
// some ground truth (all of them are flagged, also where that best is 0). Indices count within the
// image. IoU is box_iou's number to the bit, and where that is NaN (two boxes without area,
// infinite ones) it counts as 0: a box that overlaps nothing goes with the first one.
//
// A box with a NaN coordinate takes no part: nothing is matched with it, its own index is -1, its
// IoU 0, its flag false. A box that faces no box at all (no ground truth in the image, no anchor,
// or NaN alone) has index -1 and IoU 0 likewise.
//
// Deterministic on every device and number of threads.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct MatchBoxesParams {
  const void* gt;       // [m, 4] xyxy, pixels: ground truths, image after image
  const void* anchors;  // [n, 4] likewise; or one set for all images, see anchor_offsets
  // Where each image's boxes begin, ascending from 0 to m (and n); CUDA cuts others to the range.
  const int64_t* gt_offsets;      // [images + 1]; null: one image
  const int64_t* anchor_offsets;  // [images + 1]; null: every image has all n anchors
  int64_t m, n, images;
  DType dtype;                // of all boxes; f64 for f64 boxes, else f32, is the results'
  int64_t* gt_of_anchor;      // [images, n], with anchor_offsets [n]
  void* iou_of_anchor;        // likewise
  int64_t* anchor_of_gt;      // [m]
  void* iou_of_gt;            // [m]
  bool* is_best_for_some_gt;  // as gt_of_anchor
  void* workspace;            // match_boxes_workspace_*() bytes, 64-byte aligned
};

inline namespace DETCORE_ISA {

// One image's share of the boxes, and where the results of its anchors begin.
struct ImageBoxes {
  int64_t gt_begin, gts, anchor_begin, anchors, out_begin;
};

DETCORE_HD int64_t clamp_offset(int64_t x, int64_t low, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

DETCORE_HD ImageBoxes boxes_of_image(const MatchBoxesParams& p, int64_t image) {
  ImageBoxes b{0, p.m, 0, p.n, image * p.n};
  if (p.gt_offsets) {
    b.gt_begin = clamp_offset(p.gt_offsets[image], 0, p.m);
    b.gts = clamp_offset(p.gt_offsets[image + 1], b.gt_begin, p.m) - b.gt_begin;
  }
  if (p.anchor_offsets) {
    b.out_begin = b.anchor_begin = clamp_offset(p.anchor_offsets[image], 0, p.n);
    b.anchors = clamp_offset(p.anchor_offsets[image + 1], b.anchor_begin, p.n) - b.anchor_begin;
  }
  return b;
}

}  // namespace DETCORE_ISA

// Anchors in groups of 128 against the ground truths that meet the group's hull. Threads share out
// chunks of an image's anchors, at most 32. Memory: 32 bytes a ground truth and chunk.
size_t match_boxes_workspace_cpu(const MatchBoxesParams&);
Status match_boxes_cpu(const MatchBoxesParams&, const Executor&);

// One pass over the pairs: a block of 128 threads holds 512 anchors in registers and sees all
// ground truths, 64 at a time in shared memory; warps vote for the best of a ground truth, and
// pairs without overlap cost no quotient. Then a thread a ground truth takes the best over the
// shares, and a block a ground truth flags ties in the shares that reach it. Three launches (with
// offsets a fourth, which clears), no atomics, no sync. Bytes: 16 an anchor and 16 a ground truth
// and share in, 13 an anchor out. Memory: 16 bytes a ground truth and share, at most 512 shares. At
// most 2^31 - 1 boxes. Bound by arithmetic: about 10 operations a pair, 25 where two boxes overlap.
size_t match_boxes_workspace_cuda(const MatchBoxesParams&);
Status match_boxes_cuda(const MatchBoxesParams&, Stream);

}  // namespace detcore
