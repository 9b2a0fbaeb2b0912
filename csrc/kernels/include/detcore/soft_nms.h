// Soft non-maximum suppression (Bodla et al., ICCV 2017): boxes that overlap a selected one keep a
// decayed score instead of being dropped.
//
// The box of the highest score is selected, equal scores by ascending index; then every box left
// whose IoU with it is q has its score multiplied: linear: by 1 - q where double(q) >
// iou_threshold; gaussian: by exp(-q * q / sigma). A box whose score is, from the start or after a
// decay, not at least min_score is removed; so is one with a NaN score or coordinate. It goes on
// until no box is left. A q of 0 or NaN (two boxes without area, infinite ones) decays nothing.
//
// Scores are decayed in double if boxes or scores are f64, else in float, and IoU is computed in
// the same. Deterministic on every device and number of threads; linear gives the same bits on all.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

enum class SoftNmsMethod : int8_t { linear, gaussian };

struct SoftNmsParams {
  const void* boxes;   // [n, 4] xyxy, pixels
  const void* scores;  // [n]
  int64_t n;
  DType boxes_dtype, scores_dtype;
  SoftNmsMethod method;
  double iou_threshold;  // >= 0; gaussian: unused
  double sigma;          // > 0; linear: unused
  double min_score;      // >= 0
  void* workspace;       // soft_nms_workspace_*() bytes, 64-byte aligned
  int64_t* keep;         // [n] out: indices by selection; what is beyond the count is unspecified
  void* decayed;         // [n] out: their scores when selected, scores' dtype
  int64_t* count;        // [1] out: how many (device memory on CUDA)
};

inline namespace DETCORE_ISA {

template <class T>
struct SoftNmsRule {
  T above;  // linear: the largest T not above the threshold, so that q > threshold just when q > it
  T sigma;
  T least;  // the smallest T not below min_score, likewise
};

template <class T>
DETCORE_HD SoftNmsRule<T> rule_of(const SoftNmsParams& p) {
  T above = T(p.iou_threshold), least = T(p.min_score);
  if (double(above) > p.iou_threshold) above = T(::nextafterf(float(above), 0.0f));
  if (double(least) < p.min_score) least = T(::nextafterf(float(least), HUGE_VALF));
  return {above, T(p.sigma), least};
}

// What the score of a box becomes beside a selected one, with which it overlaps by q.
template <SoftNmsMethod method, class T>
DETCORE_HD T decayed_score(const SoftNmsRule<T>& rule, T score, T q) {
  if constexpr (method == SoftNmsMethod::gaussian)
    return lane_select(q > T(0), score * lane_exp((T(0) - q * q) / rule.sigma), score);
  else
    return lane_select(q > rule.above, score * (T(1) - q), score);
}

}  // namespace DETCORE_ISA

// Boxes are sorted by position into blocks of 64; each block knows its hull and its best score, so
// a selection reads the bests and touches only blocks that overlap the selected box. One thread:
// each selection waits for the last. Memory O(n).
size_t soft_nms_workspace_cpu(const SoftNmsParams&);
Status soft_nms_cpu(const SoftNmsParams&, const Executor&);

// One block of up to 1,024 threads, decay and search in one pass and one barrier a selection: time
// O(n * count), 20 bytes a box and selection from cache, no sync.
size_t soft_nms_workspace_cuda(const SoftNmsParams&);
Status soft_nms_cuda(const SoftNmsParams&, Stream);

}  // namespace detcore
