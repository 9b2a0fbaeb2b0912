// From a batch's boxes and scores to padded detections: score threshold, best candidates of each
// class, greedy NMS within each class, best detections of each image.
//
// A candidate is a box of a class whose score is above score_threshold, compared in the scores'
// dtype as PyTorch compares a tensor with a number. Of each class the candidates_per_class best
// reach the NMS, whose decision is that of nms.h, and of what it keeps the max_per_image best of
// each image come out, by descending score. Equal scores: the lower class, then the lower box index
// first, here as among a class's candidates: the order of torchvision's SSD, which puts class after
// class and sorts. +0 and -0 tie. A NaN score or a box with a NaN coordinate is no candidate and
// takes nobody's place; boxes without positive width and height overlap nothing. Places beyond an
// image's count: boxes and scores 0, labels -1. Deterministic on every device and number of
// threads. At most 2^32 - 1 scores an image.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct MulticlassNmsParams {
  const void* boxes;         // [batch, n, classes, 4] xyxy, pixels; the 4 stand side by side
  const void* scores;        // [batch, n, classes]
  int64_t box_strides[3];    // elements from image to image, box to box, class to class: 0 where
                             // classes share their boxes
  int64_t score_strides[3];  // elements, likewise; CPU: one of the last two is 1
  int64_t batch, n, classes;
  DType boxes_dtype, scores_dtype;
  double score_threshold, iou_threshold;  // iou_threshold >= 0
  int64_t candidates_per_class;           // >= 1
  int64_t max_per_image;                  // >= 1
  void* workspace;                        // multiclass_nms_workspace_*() bytes, 64-byte aligned
  void* out_boxes;                        // [batch, max_per_image, 4] out, boxes' dtype
  void* out_scores;                       // [batch, max_per_image] out, scores' dtype
  int64_t* out_labels;                    // [batch, max_per_image] out: columns of scores
  int64_t* out_counts;                    // [batch] out
};

constexpr int64_t kMostScoresAnImage = 0xffffffff;

// One pass over an image's scores keeps the best of all classes, some multiple of max_per_image.
// Where their survivors do not fill the result, a second pass keeps candidates_per_class of every
// class. Memory O(batch * max_per_image + classes * candidates_per_class).
size_t multiclass_nms_workspace_cpu(const MulticlassNmsParams&);
Status multiclass_nms_cpu(const MulticlassNmsParams&, const Executor&);

// One block of 256 threads a class of an image selects, sorts and suppresses in a grid as nms.h
// does, and stops once max_per_image are kept; one block an image merges. Two launches for the
// whole batch, no sync, capturable. Scores are read once where at most candidates_per_class pass
// the threshold, else up to twelve times, from cache. Memory O(batch * classes * max_per_image),
// and what 40 KiB of shared memory do not hold: 33 bytes a candidate.
size_t multiclass_nms_workspace_cuda(const MulticlassNmsParams&);
Status multiclass_nms_cuda(const MulticlassNmsParams&, Stream);

}  // namespace detcore
