// Converts a batch's boxes and scores to padded detections: score threshold, best candidates per
// class, greedy NMS within each class, best detections per image.
//
// A candidate is a box of a class whose score is above score_threshold, compared in the scores'
// dtype as PyTorch compares a tensor with a number. The candidates_per_class best candidates of
// each class go through NMS, with the decision of nms.h. The result is the max_per_image best kept
// boxes of each image, by descending score. Among equal scores, in the result and among the
// candidates of a class, the lower class and then the lower box index comes first. This is the
// order of torchvision's SSD, which concatenates the classes and sorts. +0 and -0 are equal. A NaN
// score or a box with a NaN coordinate is never a candidate, nor is a rotated box with a number
// that is not finite; boxes without positive width and height overlap nothing. Rotated boxes are
// compared as in nms_rotated.h. Results past an image's count have boxes and scores 0 and labels
// -1. Deterministic on every device and number of threads. At most 2^32 - 1 scores per image.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct MulticlassNmsParams {
  // [batch, n, classes, 4] xyxy, pixels; rotated: [.., 5] centre, width, height, degrees. The last
  // dimension is contiguous
  const void* boxes;
  const void* scores;        // [batch, n, classes]
  int64_t box_strides[3];    // elements from image to image, box to box, class to class: 0 where
                             // classes share their boxes
  int64_t score_strides[3];  // elements, likewise; CPU: one of the last two is 1
  int64_t batch, n, classes;
  bool rotated;
  DType boxes_dtype, scores_dtype;        // rotated boxes are f32 or f64
  double score_threshold, iou_threshold;  // iou_threshold >= 0
  int64_t candidates_per_class;           // >= 1
  int64_t max_per_image;                  // >= 1
  void* workspace;                        // multiclass_nms_workspace_*() bytes, 64-byte aligned
  void* out_boxes;                        // [batch, max_per_image, 4 or 5] out, boxes' dtype
  void* out_scores;                       // [batch, max_per_image] out, scores' dtype
  int64_t* out_labels;                    // [batch, max_per_image] out: columns of scores
  int64_t* out_counts;                    // [batch] out
};

constexpr int64_t kMostScoresPerImage = 0xffffffff;

// One pass over an image's scores keeps the best of all classes, a multiple of max_per_image. If
// the survivors do not fill the result, a second pass keeps candidates_per_class per class. Memory
// O(batch * max_per_image + classes * candidates_per_class).
size_t multiclass_nms_workspace_cpu(const MulticlassNmsParams&);
Status multiclass_nms_cpu(const MulticlassNmsParams&, const Executor&);

// One block of 256 threads per image and class selects, sorts and suppresses in a grid as nms.h
// does, and stops once max_per_image boxes are kept; then one block per image merges. Two launches
// for the whole batch, no host-device sync, usable in CUDA graphs. Scores are read once if at most
// candidates_per_class pass the threshold, else up to twelve times, from cache. Memory O(batch *
// classes * max_per_image), plus the candidates, 33 bytes each, if they do not fit 40 KiB of shared
// memory.
size_t multiclass_nms_workspace_cuda(const MulticlassNmsParams&);
Status multiclass_nms_cuda(const MulticlassNmsParams&, Stream);

}  // namespace detcore
