// Matches anchors with ground truths by IoU, in both directions at once, without storing the
// matrix.
//
// Finds for every anchor the ground truth with the highest IoU, and for every ground truth the
// anchor with the highest IoU; ties go to the lowest index. Also flags every anchor that ties with
// the best IoU of some ground truth, even if that best is 0. Indices count within the image. IoU
// has the same bits as in box_iou, but NaN (two boxes without area, infinite boxes) counts as 0. So
// a box that overlaps nothing is matched with the first box.
//
// A box with a NaN coordinate is ignored: nothing is matched with it, its own index is -1, its IoU
// 0, its flag false. A box without any candidate (the image has no ground truths or no anchors, or
// all have NaN) also has index -1 and IoU 0.
//
// Deterministic on every device and number of threads.
#pragma once

#include "detcore/core.h"
#include "detcore/rotated_box.h"

namespace detcore {

struct MatchBoxesParams {
  // [m, 4] xyxy, pixels: ground truths, sorted by image; rotated: [m, 5] centre, sides, degrees
  const void* gt;
  const void* anchors;  // [n, 4] likewise; or one set for all images, see anchor_offsets
  // The begin of each image's boxes, ascending from 0 to m (and n). CUDA clamps invalid values.
  const int64_t* gt_offsets;      // [images + 1]; null: one image
  const int64_t* anchor_offsets;  // [images + 1]; null: every image has all n anchors
  int64_t m, n, images;
  bool rotated;
  DType dtype;                // of all boxes; results are f64 for f64 boxes, else f32
  int64_t* gt_of_anchor;      // [images, n], with anchor_offsets [n]
  void* iou_of_anchor;        // likewise
  int64_t* anchor_of_gt;      // [m]
  void* iou_of_gt;            // [m]
  bool* is_best_for_some_gt;  // shape of gt_of_anchor
  void* workspace;            // match_boxes_workspace_*() bytes, 64-byte aligned
};

inline namespace DETCORE_ISA {

// The boxes of one image, and the begin of its anchors' results.
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

// Compares groups of 128 anchors with the ground truths that overlap the group's hull; rotated
// boxes in double, by the upright boxes around them first. The work is
// divided among threads in chunks of an image's anchors, at most 32 per image. Memory: 32 bytes per
// ground truth and chunk.
size_t match_boxes_workspace_cpu(const MatchBoxesParams&);
Status match_boxes_cpu(const MatchBoxesParams&, const Executor&);

// One pass over the pairs: a block of 128 threads holds 512 anchors (128 rotated ones) in registers
// and goes through all ground truths, 64 at a time in shared memory. Warps vote for the best anchor
// of a ground truth, and pairs without overlap need no division. Then one thread per ground truth
// takes the best over the shares, and one block per ground truth flags ties in the shares that
// contain the best. Three launches (with offsets a fourth, which clears), no atomics, no
// host-device sync. Bytes read: 16 per anchor, and 16 per ground truth and share. Bytes written: 13
// per anchor. Memory: 16 bytes per ground truth and share, at most 512 shares. At most 2^31 - 1
// boxes. Limited by arithmetic: about 10 operations per pair, 25 if the boxes overlap.
size_t match_boxes_workspace_cuda(const MatchBoxesParams&);
Status match_boxes_cuda(const MatchBoxesParams&, Stream);

}  // namespace detcore
