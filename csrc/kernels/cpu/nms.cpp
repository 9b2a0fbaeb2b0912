// nms and batched_nms in four steps: drop boxes and scores with NaN, radix sort by score (then,
// stably, by class), suppress within each class (greedy_nms.h), write the kept indices by rank.
#include "detcore/nms.h"

#include "greedy_nms.h"
#include "kernel.h"
#include "score_ranking.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kMostBoxes = int64_t(1) << 29;  // the number of pairs must fit 32 bits

template <class T>
struct Workspace {
  ScoreRanking ranking;
  RankedBoxes<T> boxes;  // [n] sorted by class, then by score
  GreedyNmsScratch<T> scratch;

  Workspace(const NmsParams& p, Arena& arena)
      : ranking(p.n, p.ids, arena),
        boxes{BoxArrays<T>::take(arena, p.n), p.n},
        scratch(p.n, arena) {}
};

template <class S, class ScoreS>
void nms_of(const NmsParams& p, const Executor& executor) {
  using T = arithmetic_t<S>;
  Arena arena{static_cast<char*>(p.workspace)};
  Workspace<T> w(p, arena);
  const S* boxes = static_cast<const S*>(p.boxes);
  w.ranking.sort(static_cast<const ScoreS*>(p.scores), p.n,
                 [&](int64_t i) { return !has_nan(load_box(boxes + 4 * i)); });
  parallel_for(executor, w.ranking.valid, kBriefGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) w.boxes.put(i, load_box(boxes + 4 * w.ranking.index(i)));
  });
  w.ranking.each_class(executor, [&](int64_t begin, int64_t end, const Executor& threads) {
    GreedyNms<T>(w.boxes.from(begin, end - begin), p.iou_threshold, w.scratch.from(begin),
                 w.ranking.alive + begin, threads)
        .run();
  });
  *p.count = w.ranking.write(p.keep);
}

}  // namespace

Status nms(const NmsParams& p, const Executor& executor) {
  if (p.n > kMostBoxes) return {"at most 2^29 boxes fit the CPU's scratch"};
  return with_storage(p.boxes_dtype, [&](auto storage) {
    return with_storage(p.scores_dtype, [&](auto score_storage) {
      nms_of<decltype(storage), decltype(score_storage)>(p, executor);
      return Status{};
    });
  });
}

}  // namespace DETCORE_ISA

#if defined(DETCORE_ISA_IS_BASELINE)
size_t nms_workspace_cpu(const NmsParams& params) {
  baseline::Arena arena{nullptr};
  if (params.boxes_dtype == DType::f64)
    (void)baseline::Workspace<double>(params, arena);
  else
    (void)baseline::Workspace<float>(params, arena);
  return arena.used;
}
#endif

}  // namespace detcore

DETCORE_CPU_ENTRY(nms, NmsParams)
