// Soft non-maximum suppression (Bodla et al., ICCV 2017): the scores of boxes that overlap a
// selected box decay, instead of the boxes being removed.
//
// The box with the highest score is selected (ties: the lowest index). Then the score of every
// remaining box is multiplied, where q is its IoU with the selected box. Linear: by 1 - q if
// double(q) > iou_threshold. Gaussian: by exp(-q * q / sigma). A box is removed if its score is
// below min_score, at the start or after a decay, or if its score or a coordinate is NaN. This
// repeats until no box is left. If q is 0 or NaN (two boxes without area, infinite boxes), the
// score stays.
//
// The decay and the IoU are computed in double if boxes or scores are f64, else in float.
// Deterministic on every device and number of threads; linear gives the same bits on all devices.
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
  int64_t* keep;         // [n] out: indices in order of selection; the rest is unspecified
  void* decayed;         // [n] out: their scores when selected, scores' dtype
  int64_t* count;        // [1] out: number of selected boxes (device memory on CUDA)
};

inline namespace DETCORE_ISA {

template <class T>
struct SoftNmsRule {
  T above;  // linear: the largest T <= threshold, so q > threshold if and only if q > above
  T sigma;
  T least;  // the smallest T >= min_score
};

template <class T>
DETCORE_HD SoftNmsRule<T> rule_of(const SoftNmsParams& p) {
  T above = T(p.iou_threshold), least = T(p.min_score);
  if (double(above) > p.iou_threshold) above = T(::nextafterf(float(above), 0.0f));
  if (double(least) < p.min_score) least = T(::nextafterf(float(least), HUGE_VALF));
  return {above, T(p.sigma), least};
}

// The decayed score of a box whose IoU with the selected box is q.
template <SoftNmsMethod method, class T>
DETCORE_HD T decayed_score(const SoftNmsRule<T>& rule, T score, T q) {
  if constexpr (method == SoftNmsMethod::gaussian)
    return lane_select(q > T(0), score * lane_exp((T(0) - q * q) / rule.sigma), score);
  else
    return lane_select(q > rule.above, score * (T(1) - q), score);
}

}  // namespace DETCORE_ISA

// Boxes are sorted by position into blocks of 64. Each block stores its hull and its best score, so
// a selection reads the best scores and updates only blocks that overlap the selected box. Uses one
// thread, because each selection depends on the previous one. Memory O(n).
size_t soft_nms_workspace_cpu(const SoftNmsParams&);
Status soft_nms_cpu(const SoftNmsParams&, const Executor&);

// One block of up to 1,024 threads. Decay and search are one pass with one barrier per selection:
// time O(n * count), 20 bytes per box and selection from cache, no host-device sync.
size_t soft_nms_workspace_cuda(const SoftNmsParams&);
Status soft_nms_cuda(const SoftNmsParams&, Stream);

}  // namespace detcore
