// Decodes the raw map of a dense head to boxes and scores. Anchors are computed on the fly and
// never stored.
//
// The map is contiguous [images, channels, height, width] with channel = a * per_cell + k. k counts
// 4 box values (dfl: 4 * bins), then objectness (yolo, yolo5, grid), then classes. The result of
// cell (y, x, a) has the index (y * width + x) * cells + a. dense_codec.h defines the meaning of
// the box values. Scores are sigmoid(class), times sigmoid(objectness) if there is one; without
// classes, sigmoid(objectness) is the score. With `threshold` >= 0, scores not above it are written
// as 0, and so is the box of a cell without any score above it. Deterministic: each cell is written
// by one thread.
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
  int64_t bins;               // dfl: bins per side; others: 1
  double stride_y, stride_x;  // pixels
  double weights[4];          // delta
  double clip;                // limit of log sizes
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
  const void* grad_boxes;     // shape of `boxes`
  void* grad_maps;            // shape of `maps`, all written; scores have no gradient
};

Status decode_dense_cpu(const DecodeDenseParams&, const Executor&);
Status decode_dense_backward_cpu(const DecodeDenseBackwardParams&, const Executor&);
// A block decodes all anchors of some pixels: up to 256 cells, one per thread. Adjacent threads
// read adjacent pixels of the planes and write adjacent results; in between, the values are
// transposed in shared memory, 64 bytes of scores per cell at a time. Every value is read once
// (dfl's logits three times) and written once. `anchors` is a device pointer here.
Status decode_dense_cuda(const DecodeDenseParams&, Stream);
Status decode_dense_backward_cuda(const DecodeDenseBackwardParams&, Stream);

}  // namespace detcore
