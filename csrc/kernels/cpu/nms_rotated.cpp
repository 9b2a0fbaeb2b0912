// nms_rotated, nms_3d, nms_bev, batched_nms_rotated, batched_nms_3d and batched_nms_bev:
//
//   drop boxes and scores that can't be kept, sort by score, group by class     score_ranking.h
//   measure the boxes
//   for each class: keep the best, drop what they suppress                     greedy_nms_rotated.h
#include "detcore/nms_rotated.h"

#include "greedy_nms_rotated.h"
#include "score_ranking.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kMostBoxes = int64_t(1) << 29;  // slots of the grid must fit 32 bits
constexpr int64_t kMeasureGrain = 512;

template <class Arrays>
struct Workspace {
  ScoreRanking ranking;
  RotatedNmsScratch<Arrays> scratch;
  Workspace(const NmsRotatedParams& p, Arena& arena)
      : ranking(p.n, p.ids, arena), scratch(p.n, arena) {}
};

template <class Geometry, class S, class ScoreS>
void nms_rotated_of(const NmsRotatedParams& p, const Executor& executor) {
  Arena arena{static_cast<char*>(p.workspace)};
  using Arrays = typename ArraysOf<Geometry>::type;
  Workspace<Arrays> w(p, arena);
  const S* boxes = static_cast<const S*>(p.boxes);
  const int64_t numbers = numbers_of(p.kind);
  w.ranking.sort(static_cast<const ScoreS*>(p.scores), p.n,
                 [&](int64_t i) { return all_finite(boxes + numbers * i, numbers); });
  parallel_for(executor, w.ranking.valid, kMeasureGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      w.scratch.put(i, measure_rotated_box(Geometry{}, p.kind, boxes, w.ranking.index(i)));
    }
  });
  w.ranking.each_class(executor, [&](int64_t begin, int64_t end, const Executor& threads) {
    RotatedNms<arithmetic_t<S>, Arrays>(w.scratch, begin, end - begin, p.iou_threshold,
                                        w.ranking.alive + begin, threads)
        .run();
  });
  *p.count = w.ranking.write(p.keep);
}

}  // namespace

Status nms_rotated(const NmsRotatedParams& p, const Executor& executor) {
  if (p.n > kMostBoxes) return {"at most 2^29 boxes fit the CPU's scratch"};
  return with_geometry(p.kind, [&](auto geometry) {
    return with_storage(p.boxes_dtype, [&](auto storage) {
      return with_storage(p.scores_dtype, [&](auto score_storage) {
        nms_rotated_of<decltype(geometry), decltype(storage), decltype(score_storage)>(p, executor);
        return Status{};
      });
    });
  });
}

}  // namespace DETCORE_ISA

#if defined(DETCORE_ISA_IS_BASELINE)
size_t nms_rotated_workspace_cpu(const NmsRotatedParams& params) {
  baseline::Arena arena{nullptr};
  (void)baseline::with_geometry(params.kind, [&](auto geometry) {
    (void)baseline::Workspace<typename baseline::ArraysOf<decltype(geometry)>::type>(params, arena);
    return Status{};
  });
  return arena.used;
}
#endif

}  // namespace detcore

DETCORE_CPU_ENTRY(nms_rotated, NmsRotatedParams)
