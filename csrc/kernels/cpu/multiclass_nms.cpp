// There are two ways to the same detections. The short way takes the best kPrefix * max_per_image
// candidates of an image over all classes. They are a prefix of the order in which greedy selection
// visits candidates. We group them by class and suppress; usually at least max_per_image survive,
// and no other candidate matters. If fewer survive, the long way takes the best candidates of every
// class.
#include "detcore/multiclass_nms.h"

#include "multiclass_boxes.h"
#include "top_k.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kPrefix = 8;
constexpr int64_t kMostTasks = 32;  // units of work of the long way, each with its own scratch
constexpr int64_t kWidest = 16;     // the most lanes of any instruction set

int64_t scores_of(const MulticlassNmsParams& p) { return p.n * p.classes; }
int64_t prefix_of(const MulticlassNmsParams& p) {
  const int64_t all = scores_of(p);
  return p.max_per_image < all / kPrefix ? kPrefix * p.max_per_image : all;
}
int64_t most_of_class(const MulticlassNmsParams& p) { return at_most(p.n, p.candidates_per_class); }
// Twice the kept items, so that the cost of trimming per item is small.
int64_t capacity_for(int64_t keep, int64_t all) { return keep < all / 2 ? 2 * keep : all; }

// Scratch memory of the short way, for one image.
template <class Candidates, class ScoreT>
struct PrefixScratch {
  item_t<ScoreT>*items, *other;  // [capacity_for(prefix)]
  int64_t *begin, *filled;       // [classes + 1] begin and number of each class's candidates
  uint32_t* rank;                // [prefix] sorted by class, then by score: index of the item
  bool* alive;                   // [prefix] by rank
  Candidates of_class;

  PrefixScratch(const MulticlassNmsParams& p, Arena& arena)
      : items(arena.take<item_t<ScoreT>>(capacity_for(prefix_of(p), scores_of(p)))),
        other(arena.take<item_t<ScoreT>>(capacity_for(prefix_of(p), scores_of(p)))),
        begin(arena.take<int64_t>(p.classes + 1)),
        filled(arena.take<int64_t>(p.classes + 1)),
        rank(arena.take<uint32_t>(prefix_of(p))),
        alive(arena.take<bool>(prefix_of(p))),
        of_class(prefix_of(p), arena) {}
};

// Scratch memory of the long way: a task handles its classes one by one.
template <class Candidates, class ScoreT>
struct TaskScratch {
  item_t<ScoreT>* other;  // [capacity_for(most_of_class)]
  Candidates of_class;

  TaskScratch(const MulticlassNmsParams& p, Arena& arena)
      : other(arena.take<item_t<ScoreT>>(capacity_for(most_of_class(p), p.n))),
        of_class(most_of_class(p), arena) {}
};

// `count` consecutive scratch areas of one kind.
template <class Scratch>
struct Scratches {
  size_t bytes;
  char* memory;

  Scratches(const MulticlassNmsParams& p, int64_t count, Arena& arena) {
    Arena one{nullptr};
    (void)Scratch(p, one);
    bytes = one.used;
    memory = arena.take<char>(int64_t(bytes) * count);
  }
  Scratch at(const MulticlassNmsParams& p, int64_t i) const {
    Arena arena{memory + i * bytes};
    return Scratch(p, arena);
  }
};

template <class Candidates, class ScoreT>
struct Workspace {
  Scratches<PrefixScratch<Candidates, ScoreT>> images;  // [batch]
  bool* done;                                           // [batch] true if the short way was enough
  int64_t task_count;
  Scratches<TaskScratch<Candidates, ScoreT>> tasks;  // [task_count]
  TopK<ScoreT>* best;                                // [classes]
  item_t<ScoreT>* items;                             // [classes, capacity_for(most_of_class)]
  ScoreT* floors;                                    // [classes + kWidest]

  Workspace(const MulticlassNmsParams& p, Arena& arena)
      : images(p, p.batch, arena),
        done(arena.take<bool>(p.batch)),
        task_count(at_most(kMostTasks, p.classes)),
        tasks(p, task_count, arena),
        best(arena.take<TopK<ScoreT>>(p.classes)),
        items(arena.take<item_t<ScoreT>>(p.classes * capacity_for(most_of_class(p), p.n))),
        floors(arena.take<ScoreT>(p.classes + kWidest)) {}
};

template <class Candidates, class ScoreS>
class MulticlassNms {
  using S = typename Candidates::Storage;
  using ScoreT = arithmetic_t<ScoreS>;
  using Item = item_t<ScoreT>;

 public:
  explicit MulticlassNms(const MulticlassNmsParams& p) : p(p) {
    ScoreS rounded;
    narrow(ScoreT(p.score_threshold), rounded);
    threshold = widen(rounded);
    by_class = p.score_strides[1] == 1 && (p.score_strides[2] != 1 || p.classes == 1);
  }

  void run(const Executor& executor) const {
    Arena arena{static_cast<char*>(p.workspace)};
    const Workspace<Candidates, ScoreT> w(p, arena);
    parallel_for(executor, p.batch, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b)
        w.done[b] = short_way(b, w.images.at(p, b), p.batch == 1 ? executor : Executor{});
    });
    for (int64_t b = 0; b < p.batch; ++b)
      if (!w.done[b]) long_way(b, w, executor);
  }

 private:
  const MulticlassNmsParams& p;
  ScoreT threshold;
  bool by_class;  // the scores of a class are contiguous, not those of a box

  const ScoreS* score_at(int64_t b, int64_t i, int64_t c) const {
    return static_cast<const ScoreS*>(p.scores) + b * p.score_strides[0] + i * p.score_strides[1] +
           c * p.score_strides[2];
  }
  const S* box_at(int64_t b, int64_t i, int64_t c) const {
    return static_cast<const S*>(p.boxes) + b * p.box_strides[0] + i * p.box_strides[1] +
           c * p.box_strides[2];
  }
  // The place of an item is class * n + box.
  const S* box_of(int64_t b, Item item) const {
    const uint32_t n = uint32_t(p.n), place = place_of(item);
    return box_at(b, place % n, place / n);
  }
  bool is_sound(int64_t b, int64_t i, int64_t c) const {
    return Candidates::is_sound(box_at(b, i, c));
  }

  // Calls accept(j, score) for each of the `count` scores from `row` on that is above floor(j), one
  // vector at a time. Memory up to `end` may be read.
  template <class Floor, class Accept>
  DETCORE_HD static void scan(const ScoreS* row, int64_t count, const ScoreS* end,
                              const Floor& floor, const Accept& accept) {
    constexpr int64_t width = Lanes<ScoreT>::width;
    for (int64_t j = 0; j < count; j += width) {
      const int64_t lanes = at_most(width, count - j);
      Lanes<ScoreT> x;
      if (end - (row + j) >= width)
        x = load_lanes(row + j);
      else
        load_lanes(row + j, lanes, x);
      uint32_t bits = lane_bits(x > floor(j)) & uint32_t((uint64_t(1) << lanes) - 1);
      for (; bits; bits &= bits - 1) {
        const int64_t at = j + __builtin_ctz(bits);
        accept(at, widen(row[at]));
      }
    }
  }
  const ScoreS* end_of(int64_t b) const { return score_at(b, p.n - 1, p.classes - 1) + 1; }

  // The best candidates of an image, over all classes.
  void collect(int64_t b, TopK<ScoreT>& best) const {
    const ScoreS* end = end_of(b);
    auto floor = [&](int64_t) { return Lanes<ScoreT>(*best.floor); };
    if (by_class) {
      for (int64_t c = 0; c < p.classes; ++c) collect_class(b, c, best);
      return;
    }
    for (int64_t i = 0; i < p.n; ++i)
      scan(score_at(b, i, 0), p.classes, end, floor, [&](int64_t c, ScoreT score) {
        if (is_sound(b, i, c)) best.push(item_of(score, uint32_t(c * p.n + i)));
      });
  }
  void collect_class(int64_t b, int64_t c, TopK<ScoreT>& best) const {
    auto floor = [&](int64_t) { return Lanes<ScoreT>(*best.floor); };
    scan(score_at(b, 0, c), p.n, end_of(b), floor, [&](int64_t i, ScoreT score) {
      if (is_sound(b, i, c)) best.push(item_of(score, uint32_t(c * p.n + i)));
    });
  }
  // The best candidates of each class in [first, last). Their floors are contiguous.
  void collect_classes(int64_t b, int64_t first, int64_t last, TopK<ScoreT>* best,
                       const ScoreT* floors) const {
    if (by_class) {
      for (int64_t c = first; c < last; ++c) collect_class(b, c, best[c]);
      return;
    }
    const ScoreS* end = end_of(b);
    auto floor = [&](int64_t j) { return Lanes<ScoreT>::load(floors + first + j); };
    for (int64_t i = 0; i < p.n; ++i)
      scan(score_at(b, i, first), last - first, end, floor, [&](int64_t j, ScoreT score) {
        const int64_t c = first + j;
        if (is_sound(b, i, c)) best[c].push(item_of(score, uint32_t(c * p.n + i)));
      });
  }

  // Returns false if the prefix of the candidates does not contain the whole result.
  bool short_way(int64_t b, const PrefixScratch<Candidates, ScoreT>& s,
                 const Executor& executor) const {
    const int64_t all = scores_of(p);
    if (all == 0) {
      emit(b, nullptr, 0);
      return true;
    }
    ScoreT floor = threshold;
    TopK<ScoreT> best{s.items, capacity_for(prefix_of(p), all), prefix_of(p), &floor};
    collect(b, best);
    best.trim();
    const Item* items = sort_items(s.items, s.other, best.count);
    group_by_class(b, items, best.count, s);
    for (int64_t c = 0; c < p.classes; ++c)
      if (s.begin[c] < s.begin[c + 1])
        s.of_class.suppress(s.begin[c], s.begin[c + 1] - s.begin[c], p.iou_threshold, executor);
    memset(s.alive, 0, prefix_of(p));
    for (int64_t at = 0; at < s.begin[p.classes]; ++at) s.alive[s.rank[at]] = s.of_class.alive[at];
    // written in place, or over memory that sorting no longer needs
    int64_t survivors = 0;
    for (int64_t r = 0; r < best.count; ++r) {
      s.items[survivors] = items[r];
      survivors += s.alive[r];
    }
    if (best.dropped && survivors < p.max_per_image) return false;
    emit(b, s.items, at_most(p.max_per_image, survivors));
    return true;
  }
  // Groups ranks and boxes by class, at most candidates_per_class each.
  void group_by_class(int64_t b, const Item* items, int64_t count,
                      const PrefixScratch<Candidates, ScoreT>& s) const {
    const uint32_t n = uint32_t(p.n);
    memset(s.filled, 0, p.classes * sizeof(int64_t));
    for (int64_t r = 0; r < count; ++r) ++s.filled[place_of(items[r]) / n];
    s.begin[0] = 0;
    for (int64_t c = 0; c < p.classes; ++c) {
      s.begin[c + 1] = s.begin[c] + at_most(p.candidates_per_class, s.filled[c]);
      s.filled[c] = 0;
    }
    for (int64_t r = 0; r < count; ++r) {
      const int64_t c = place_of(items[r]) / n, at = s.begin[c] + s.filled[c];
      if (at == s.begin[c + 1]) continue;
      ++s.filled[c];
      s.rank[at] = uint32_t(r);
      s.of_class.put(at, box_of(b, items[r]));
    }
  }

  void long_way(int64_t b, const Workspace<Candidates, ScoreT>& w, const Executor& executor) const {
    const int64_t keep = most_of_class(p), capacity = capacity_for(keep, p.n);
    for (int64_t c = 0; c < p.classes; ++c) {
      w.floors[c] = threshold;
      w.best[c] = {w.items + c * capacity, capacity, keep, w.floors + c};
    }
    parallel_for(executor, w.task_count, 1, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * p.classes / w.task_count;
      const int64_t last = end * p.classes / w.task_count;
      const TaskScratch<Candidates, ScoreT> s = w.tasks.at(p, begin);
      collect_classes(b, first, last, w.best, w.floors);
      for (int64_t c = first; c < last; ++c)
        keep_survivors(b, w.best[c], s, w.task_count == 1 ? executor : Executor{});
    });
    const PrefixScratch<Candidates, ScoreT> s = w.images.at(p, b);
    ScoreT floor = threshold;
    const int64_t all = scores_of(p);
    TopK<ScoreT> best{s.items, capacity_for(prefix_of(p), all),
                      at_most(prefix_of(p), p.max_per_image), &floor};
    for (int64_t c = 0; c < p.classes; ++c)
      for (int64_t k = 0; k < w.best[c].count; ++k) best.push(w.best[c].items[k]);
    best.trim();
    emit(b, sort_items(s.items, s.other, best.count), best.count);
  }
  // Reduces a class's items to those that survive its NMS, at most max_per_image, best first.
  void keep_survivors(int64_t b, TopK<ScoreT>& best, const TaskScratch<Candidates, ScoreT>& s,
                      const Executor& executor) const {
    best.trim();
    if (best.count == 0) return;
    const Item* items = sort_items(best.items, s.other, best.count);
    for (int64_t k = 0; k < best.count; ++k) s.of_class.put(k, box_of(b, items[k]));
    s.of_class.suppress(0, best.count, p.iou_threshold, executor);
    int64_t survivors = 0;
    for (int64_t k = 0; k < best.count && survivors < p.max_per_image; ++k) {
      best.items[survivors] = items[k];
      survivors += s.of_class.alive[k];
    }
    best.count = survivors;
  }

  // Writes the image's detections and fills the rest of its rows.
  void emit(int64_t b, const Item* items, int64_t count) const {
    constexpr int64_t numbers = Candidates::numbers;
    S* boxes = static_cast<S*>(p.out_boxes) + numbers * b * p.max_per_image;
    ScoreS* scores = static_cast<ScoreS*>(p.out_scores) + b * p.max_per_image;
    int64_t* labels = p.out_labels + b * p.max_per_image;
    const uint32_t n = uint32_t(p.n);
    for (int64_t k = 0; k < count; ++k) {
      const uint32_t c = place_of(items[k]) / n, i = place_of(items[k]) % n;
      memcpy(boxes + numbers * k, box_at(b, i, c), numbers * sizeof(S));
      scores[k] = *score_at(b, i, c);
      labels[k] = c;
    }
    const int64_t rest = p.max_per_image - count;
    memset(boxes + numbers * count, 0, rest * numbers * sizeof(S));
    memset(scores + count, 0, rest * sizeof(ScoreS));
    memset(labels + count, 0xff, rest * sizeof(int64_t));
    p.out_counts[b] = count;
  }
};

}  // namespace

Status multiclass_nms(const MulticlassNmsParams& p, const Executor& executor) {
  if (scores_of(p) > kMostScoresPerImage) return {"at most 2^32 - 1 scores per image"};
  return with_storage(p.scores_dtype, [&](auto score_storage) {
    using ScoreS = decltype(score_storage);
    if (p.rotated && p.boxes_dtype == DType::f64)
      MulticlassNms<RotatedCandidates<double>, ScoreS>(p).run(executor);
    else if (p.rotated)
      MulticlassNms<RotatedCandidates<float>, ScoreS>(p).run(executor);
    if (p.rotated) return Status{};
    return with_storage(p.boxes_dtype, [&](auto storage) {
      MulticlassNms<UprightCandidates<decltype(storage)>, ScoreS>(p).run(executor);
      return Status{};
    });
  });
}

}  // namespace DETCORE_ISA

#if defined(DETCORE_ISA_IS_BASELINE)
namespace {

template <class Candidates>
size_t workspace_bytes(const MulticlassNmsParams& p) {
  baseline::Arena arena{nullptr};
  if (p.scores_dtype == DType::f64)
    (void)baseline::Workspace<Candidates, double>(p, arena);
  else
    (void)baseline::Workspace<Candidates, float>(p, arena);
  return arena.used;
}

}  // namespace

size_t multiclass_nms_workspace_cpu(const MulticlassNmsParams& p) {
  if (p.rotated) return workspace_bytes<baseline::RotatedCandidates<float>>(p);
  return p.boxes_dtype == DType::f64 ? workspace_bytes<baseline::UprightCandidates<double>>(p)
                                     : workspace_bytes<baseline::UprightCandidates<float>>(p);
}
#endif

}  // namespace detcore

DETCORE_CPU_ENTRY(multiclass_nms, MulticlassNmsParams)
