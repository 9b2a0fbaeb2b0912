// Boxes and scores of a dense head's raw map; anchors are made on the fly and never stored.
//
// The map is planar, channel = a * per_cell + k, k running over 4 box values (dfl: 4 * bins), then
// (yolo, yolo5, grid) objectness, then classes. Output cell (y, x, a) stands at (y * width + x) *
// cells + a. What the box values mean is dense_codec.h's to say. Scores are sigmoid(class), times
// sigmoid(objectness) where there is one (alone, if there are no classes). With `threshold` >= 0,
// scores not above it are written as 0, and so is the box of a cell that has none left.
// Deterministic: a cell is written by one thread.
#pragma once

#include "detcore/core.h"
#include "detcore/dense_codec.h"

namespace detcore {

struct DecodeDenseParams {
  const void* maps;  // [batch, cells * per_cell, height, width]
  const void*
      anchors;   // delta: [cells, 4] xyxy; yolo, yolo5: [cells, 2] w, h; f64; null: cells = 1
  void* boxes;   // [batch, height * width * cells, 4] xyxy, pixels, maps' dtype
  void* scores;  // [batch, height * width * cells, classes], likewise; null: none
  int64_t batch, cells, per_cell, classes, height, width;
  DType dtype;  // of maps, boxes, scores
  DenseCodec codec;
  int64_t bins;               // dfl: a side; else 1
  double stride_y, stride_x;  // pixels
  double weights[4];          // delta
  double clip;                // above which log sizes are cut
  double scale_xy;            // yolo
  double threshold;           // < 0: none
};

template <class T>
DETCORE_HD DenseScores<T> scores_of(const DecodeDenseParams& p) {
  const bool objectness = has_objectness(p.codec);
  return {4 * p.bins, objectness, objectness && p.per_cell == 5, p.classes, T(p.threshold)};
}

struct DecodeDenseBackwardParams {
  DecodeDenseParams forward;  // `boxes` and `scores` unused
  const void* grad_boxes;     // as `boxes`
  void* grad_maps;            // as `maps`: every element written; scores take no gradient
};

Status decode_dense_cpu(const DecodeDenseParams&, const Executor&);
Status decode_dense_backward_cpu(const DecodeDenseBackwardParams&, const Executor&);
// A block takes all anchors of some pixels, up to 256 cells, one a thread. Neighbouring threads are
// neighbouring pixels where planes are read, and neighbouring results where boxes and scores are
// written: they change places in shared memory, scores 64 bytes a cell at a time. Every value is
// read once and written once, dfl's logits three times. `anchors` is a device pointer here.
Status decode_dense_cuda(const DecodeDenseParams&, Stream);
Status decode_dense_backward_cuda(const DecodeDenseBackwardParams&, Stream);

}  // namespace detcore
