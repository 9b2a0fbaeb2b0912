// nms and batched_nms in four steps: drop boxes and scores with NaN, radix sort by score (then,
// stably, by class), suppress within each class (greedy_nms.h), write the kept indices by rank.
#include "detcore/nms.h"

#include "greedy_nms.h"
#include "kernel.h"
#include "radix_sort.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kMostBoxes = int64_t(1) << 29;  // the number of pairs must fit 32 bits
// From this size on, all threads work on one class
constexpr int64_t kLargeClass = 8192;

template <class T>
struct Workspace {
  uint64_t *by_score, *by_class, *other;  // [n] (key, index), (key, rank), scratch
  int64_t* segments;                      // [n + 1] begin of each class
  RankedBoxes<T> boxes;                   // [n] sorted by class, then by score
  bool *alive, *alive_by_rank;            // [n] in the order of `boxes`; by score
  GreedyNmsScratch<T> scratch;

  Workspace(const NmsParams& p, Arena& arena)
      : by_score(arena.take<uint64_t>(p.n)),
        by_class(p.ids ? arena.take<uint64_t>(p.n) : nullptr),
        other(arena.take<uint64_t>(p.n)),
        segments(arena.take<int64_t>(p.n + 1)),
        boxes{BoxArrays<T>::take(arena, p.n), p.n},
        alive(arena.take<bool>(p.n)),
        alive_by_rank(p.ids ? arena.take<bool>(p.n) : alive),
        scratch(p.n, arena) {}
};

// Sorts items by the 64 bits of key(payload), in two passes of 32 bits. Overwrites `other`.
template <class Key>
void sort_by_wide_key(uint64_t*& items, uint64_t*& other, int64_t n, const Key& key) {
  for (int shift = 0; shift < 64; shift += 32) {
    for (int64_t i = 0; i < n; ++i)
      items[i] = packed(uint32_t(key(value_of(items[i])) >> shift), value_of(items[i]));
    uint64_t* sorted = radix_sort(items, other, n);
    other = sorted == items ? other : items;
    items = sorted;
  }
}

// Writes the indices of boxes and scores without NaN to by_score, best first, and returns their
// number.
template <class S, class ScoreS>
int64_t rank_by_score(const NmsParams& p, Workspace<arithmetic_t<S>>& w) {
  const S* boxes = static_cast<const S*>(p.boxes);
  const ScoreS* scores = static_cast<const ScoreS*>(p.scores);
  int64_t valid = 0;
  for (int64_t i = 0; i < p.n; ++i) {
    const auto b = load_box(boxes + 4 * i);
    const auto score = widen(scores[i]);
    w.by_score[valid] = packed(uint32_t(descending_key(score)), uint32_t(i));
    valid += !has_nan(b) & (score == score);
  }
  if constexpr (sizeof(widen(ScoreS{})) == 8) {
    sort_by_wide_key(w.by_score, w.other, valid,
                     [&](uint32_t i) { return descending_key(widen(scores[i])); });
  } else {
    uint64_t* sorted = radix_sort(w.by_score, w.other, valid);
    w.other = sorted == w.by_score ? w.other : w.by_score;
    w.by_score = sorted;
  }
  return valid;
}

// Groups the ranks by class id in by_class and returns the number of classes.
template <class T>
int64_t group_by_class(const NmsParams& p, Workspace<T>& w, int64_t valid) {
  w.segments[0] = 0;
  if (!p.ids || valid == 0) {
    w.segments[1] = valid;
    return valid > 0;
  }
  auto id = [&](uint32_t rank) { return uint64_t(p.ids[value_of(w.by_score[rank])]); };
  for (int64_t r = 0; r < valid; ++r) w.by_class[r] = uint64_t(r);
  sort_by_wide_key(w.by_class, w.other, valid, id);
  int64_t classes = 0;
  uint64_t last = id(value_of(w.by_class[0]));
  for (int64_t i = 1; i < valid; ++i) {
    const uint64_t own = id(value_of(w.by_class[i]));
    if (own != last) w.segments[++classes] = i;
    last = own;
  }
  w.segments[++classes] = valid;
  return classes;
}

template <class T>
void suppress_class(const NmsParams& p, const Workspace<T>& w, int64_t c,
                    const Executor& executor) {
  const int64_t begin = w.segments[c], end = w.segments[c + 1];
  GreedyNms<T>(w.boxes.from(begin, end - begin), p.iou_threshold, w.scratch.from(begin),
               w.alive + begin, executor)
      .run();
}

// First the large classes one by one, each with all threads, then the small classes in parallel.
template <class T>
void suppress_classes(const NmsParams& p, const Workspace<T>& w, int64_t classes,
                      const Executor& executor) {
  auto large = [&](int64_t c) { return w.segments[c + 1] - w.segments[c] >= kLargeClass; };
  for (int64_t c = 0; c < classes; ++c)
    if (large(c)) suppress_class(p, w, c, executor);
  const int64_t boxes = w.segments[classes];
  parallel_for(executor, classes, 1 + classes * 512 / (boxes + 1), [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c)
      if (!large(c)) suppress_class(p, w, c, Executor{});
  });
}

template <class S, class ScoreS>
void nms_of(const NmsParams& p, const Executor& executor) {
  using T = arithmetic_t<S>;
  Arena arena{static_cast<char*>(p.workspace)};
  Workspace<T> w(p, arena);
  const int64_t valid = rank_by_score<S, ScoreS>(p, w);
  const int64_t classes = group_by_class(p, w, valid);
  auto rank = [&](int64_t i) { return p.ids ? int64_t(value_of(w.by_class[i])) : i; };
  parallel_for(executor, valid, kBriefGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      w.boxes.put(i, load_box(static_cast<const S*>(p.boxes) + 4 * value_of(w.by_score[rank(i)])));
  });
  suppress_classes(p, w, classes, executor);
  if (p.ids)
    for (int64_t i = 0; i < valid; ++i) w.alive_by_rank[rank(i)] = w.alive[i];
  int64_t count = 0;
  for (int64_t r = 0; r < valid; ++r) {
    p.keep[count] = value_of(w.by_score[r]);
    count += w.alive_by_rank[r];
  }
  *p.count = count;
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
