#include "detcore/weighted_boxes_fusion.h"

#include "box_arrays.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

using L = Lanes<double>;

constexpr int64_t kAlone = 512;  // with fewer boxes, waking a thread takes longer

// The fused boxes of one label, whose boxes are order[begin] and the following ones.
class LabelFusion {
 public:
  LabelFusion(const WeightedBoxesFusionParams& p, const FusionScratch& s, int64_t begin)
      : p(p),
        begin(begin),
        corners{s.corners + begin, s.corners + p.n + begin, s.corners + 2 * p.n + begin,
                s.corners + 3 * p.n + begin},
        fused(s.fused + begin),
        seen(s.seen + begin * s.words),
        words(s.words) {}

  // Returns the number of fused boxes.
  int64_t run(int64_t end) {
    for (int64_t at = begin; at < end; ++at)
      if (takes_part(p, p.order[at])) place(p.order[at]);
    return count;
  }

 private:
  const WeightedBoxesFusionParams& p;
  const int64_t begin;
  const BoxArrays<double> corners;
  FusedBox* fused;
  uint64_t* seen;
  const int64_t words;
  int64_t count = 0;

  void place(int64_t i) {
    int64_t to = best_for(load_box(p.boxes + 4 * i));
    if (to < 0) {
      to = count++;
      fused[to] = FusedBox{};
      memset(seen + to * words, 0, words * sizeof(uint64_t));
      corners.put(to, load_box(p.boxes + 4 * i));
    }
    corners.put(to, add_member(p, i, fused[to], seen + to * words, corners[to]));
  }

  // The fused box with the highest IoU above the threshold, the earliest of equals; -1 if there is
  // none.
  int64_t best_for(const Box<double>& box) const {
    const Box<L> wide = in_all_lanes(box);
    const L area(box.area());
    L best(p.iou_threshold), which(-1.0);
    for (int64_t k = 0; k < count; k += L::width) {
      const Box<L> other = count - k < L::width ? corners.lanes(k, count - k) : corners.lanes(k);
      const auto meet = overlapping<double>(other, wide);
      if (!lane_any(meet)) continue;
      const L inter = intersection(other, wide);
      const L iou = inter / union_area(other.area(), area, inter);
      const auto better = meet & (iou > best);
      best = lane_select(better, iou, best);
      which = lane_select(better, lane_indices<double>() + L(double(k)), which);
    }
    int64_t found = -1;
    double most = p.iou_threshold;
    for (int l = 0; l < L::width; ++l) {
      if (which.v[l] < 0.0) continue;
      const bool earlier = best.v[l] == most && found >= 0 && int64_t(which.v[l]) < found;
      if (best.v[l] > most || earlier) most = best.v[l], found = int64_t(which.v[l]);
    }
    return found;
  }
};

}  // namespace

Status weighted_boxes_fusion(const WeightedBoxesFusionParams& p, const Executor& executor) {
  const FusionScratch s(p);
  const auto label = [&](int64_t at) { return p.labels[p.order[at]]; };
  const auto begins = [&](int64_t at) { return at == 0 || label(at) != label(at - 1); };
  parallel_for(executor, p.n, kAlone, [&](int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; ++at) {
      s.members[at] = 0;
      if (!begins(at)) continue;
      int64_t last = at + 1;
      while (last < p.n && !begins(last)) ++last;
      s.members[at] = LabelFusion(p, s, at).run(last);
    }
  });
  int64_t count = 0;
  for (int64_t at = 0; at < p.n; ++at)
    for (int64_t k = at; k < at + s.members[at]; ++k, ++count) {
      for (int64_t c = 0; c < 4; ++c) p.out_boxes[4 * count + c] = s.corners[c * p.n + k];
      p.out_scores[count] = fused_score(p, s.fused[k]);
      p.out_labels[count] = label(at);
    }
  *p.count = count;
  return {};
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(weighted_boxes_fusion, WeightedBoxesFusionParams)
