// Weighted boxes fusion (Solovyev, Wang, Gabruseva, 2021): boxes of several models that agree
// become one, with their mean coordinates.
//
// Within each label, boxes come by descending weighted score (score times the weight of its model).
// A box joins the fused box with which its IoU is highest, if that is above the threshold; of equal
// IoUs the fused box that began first. Otherwise it begins a fused box. A fused box has the mean
// coordinates of its members, weighted by their weighted scores. A box whose score is below
// skip_threshold takes no part, nor does one with a number that is not finite. A box without area
// overlaps nothing.
//
// All numbers are double. Deterministic on every device and number of threads.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

// How the score of a fused box comes from the weighted scores of its members.
enum class FusedScore : int8_t {
  average,             // their mean, times the share of models if fewer than these are members
  best,                // the highest, over the highest weight
  box_and_model,       // their weighted mean, times the share of the models that are present
  absent_model_aware,  // their weighted mean, in which absent models count as scores of 0
};

struct WeightedBoxesFusionParams {
  const double* boxes;    // [n, 4] xyxy
  const double* scores;   // [n]
  const double* weights;  // [n] of the model that found the box; positive
  const int64_t* labels;  // [n]
  const int64_t* models;  // [n] 0 to model_count - 1; others are clamped
  // [n] indices of the boxes by label, then by descending weighted score, then ascending
  const int64_t* order;
  int64_t n, model_count;
  double weight_sum, most_weight;  // of all models
  double iou_threshold, skip_threshold;
  FusedScore kind;
  double* out_boxes;    // [n, 4] out; as all results, the first `count` of n
  double* out_scores;   // [n] out
  int64_t* out_labels;  // [n] out: by the order of labels, then as fused boxes began
  int64_t* count;       // [1] out
  void* workspace;      // weighted_boxes_fusion_workspace() bytes, 64-byte aligned
};

inline namespace DETCORE_ISA {

// A fused box, but for its coordinates.
struct FusedBox {
  double sum[4];     // coordinates times weighted scores
  double score;      // the sum of weighted scores
  double most;       // the highest of them
  double weight;     // the sum of the members' weights
  double of_models;  // the sum of the weights of the models that are present
  int64_t members;
};

DETCORE_HD double fused_score(const WeightedBoxesFusionParams& p, const FusedBox& f) {
  switch (p.kind) {
    case FusedScore::average: {
      const int64_t present = f.members < p.model_count ? f.members : p.model_count;
      return f.score / double(f.members) * double(present) / p.weight_sum;
    }
    case FusedScore::best: return f.most / p.most_weight;
    case FusedScore::box_and_model: return f.score / f.weight * f.of_models / p.weight_sum;
    default: return f.score / (f.weight + (p.weight_sum - f.of_models));
  }
}

DETCORE_HD bool takes_part(const WeightedBoxesFusionParams& p, int64_t i) {
  double nothing = p.scores[i] - p.scores[i];
  for (int64_t k = 0; k < 4; ++k) nothing += p.boxes[4 * i + k] - p.boxes[4 * i + k];
  return nothing == 0.0 && p.scores[i] >= p.skip_threshold;
}

// Adds box i to a fused box, whose first member has the coordinates `first`, and returns the new
// ones. `seen`: one bit per model.
DETCORE_HD Box<double> add_member(const WeightedBoxesFusionParams& p, int64_t i, FusedBox& f,
                                  uint64_t* seen, const Box<double>& first) {
  const double weight = p.weights[i], score = p.scores[i] * weight, *box = p.boxes + 4 * i;
  int64_t model = p.models[i] < 0 ? 0 : p.models[i];
  model = model < p.model_count ? model : p.model_count - 1;
  const uint64_t bit = uint64_t(1) << model % 64;
  if (!(seen[model / 64] & bit)) f.of_models += weight;
  seen[model / 64] |= bit;
  for (int k = 0; k < 4; ++k) f.sum[k] += score * box[k];
  f.most = f.members == 0 || score > f.most ? score : f.most;
  f.score += score, f.weight += weight, ++f.members;
  if (f.members == 1) return {box[0], box[1], box[2], box[3]};
  if (!(f.score > 0.0)) return first;  // without scores there is no mean
  return {f.sum[0] / f.score, f.sum[1] / f.score, f.sum[2] / f.score, f.sum[3] / f.score};
}

// The fused boxes of one label begin at its first box's place in `order`. Those of all labels have
// one scratch memory.
struct FusionScratch {
  double* corners;   // [4, n] x1, y1, x2, y2 of the fused boxes
  FusedBox* fused;   // [n]
  uint64_t* seen;    // [n, words]
  int64_t words;     // of bits, one per model
  int64_t* members;  // [n] fused boxes of the label that begins here, else 0

  DETCORE_HD explicit FusionScratch(const WeightedBoxesFusionParams& p)
      : corners(static_cast<double*>(p.workspace)),
        fused(reinterpret_cast<FusedBox*>(corners + 4 * p.n)),
        seen(reinterpret_cast<uint64_t*>(fused + p.n)),
        words((p.model_count + 63) / 64),
        members(reinterpret_cast<int64_t*>(seen + p.n * words)) {}
};

}  // namespace DETCORE_ISA

inline size_t weighted_boxes_fusion_workspace(const WeightedBoxesFusionParams& p) {
  const size_t words = size_t(p.model_count + 63) / 64;
  return size_t(p.n) * (5 * sizeof(double) + sizeof(FusedBox) + words * sizeof(uint64_t));
}

// Labels are divided among the threads. A box is compared with all fused boxes of its label, one
// per lane.
Status weighted_boxes_fusion_cpu(const WeightedBoxesFusionParams&, const Executor&);
// One block per label, whose threads compare a box with the fused boxes; then one block moves the
// results together. Two launches. Limited by the latency of a step, of which there is one per box.
Status weighted_boxes_fusion_cuda(const WeightedBoxesFusionParams&, Stream);

}  // namespace detcore
