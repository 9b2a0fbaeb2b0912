// A selection changes only the boxes around the selected one. So boxes are sorted by position into
// blocks of 64, and each block stores its hull and its best score. A selection reads the best
// scores, tests the hulls, and decays the few blocks that it hits; the decay also finds their new
// best.
//
// Within a block, boxes are sorted by index, and blocks store the index of their best box. So ties
// go to the lowest index, however boxes were sorted. A removed box has a score of -inf, which no
// decay changes.
#include "detcore/soft_nms.h"

#include "box_arrays.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kBlock = 64;
constexpr int64_t kPad = 16;  // slots and blocks that may be read past the last, for any lane width

template <class T>
struct Workspace {
  BoxArrays<T> boxes;              // [blocks * kBlock + kPad] by slot
  T* score;                        // by slot; -inf: removed
  int64_t* index;                  // [blocks * kBlock] index of the box in each slot
  BoxArrays<T> hulls;              // [blocks + kPad]
  T* best;                         // [blocks + kPad] the highest score of each block
  int64_t* best_slot;              // [blocks] the slot of that score
  int64_t *order, *sorted, *cell;  // [n] indices of the boxes above the least score
  int64_t* cell_start;             // [n + 8] begin of each cell's boxes in `sorted`

  Workspace(int64_t n, Arena& arena) {
    const int64_t blocks = divide_up(n, kBlock), slots = blocks * kBlock;
    boxes = BoxArrays<T>::take(arena, slots + kPad), score = arena.take<T>(slots + kPad);
    index = arena.take<int64_t>(slots);
    hulls = BoxArrays<T>::take(arena, blocks + kPad), best = arena.take<T>(blocks + kPad);
    best_slot = arena.take<int64_t>(blocks);
    order = arena.take<int64_t>(n), sorted = arena.take<int64_t>(n), cell = arena.take<int64_t>(n);
    cell_start = arena.take<int64_t>(n + 8);
  }
};

template <class S, class T>
DETCORE_HD Box<T> load_as(const S* p) {
  const auto b = load_box(p);
  return {T(b.x1), T(b.y1), T(b.x2), T(b.y2)};
}

// A counting sort of boxes by cells, with about one block's boxes per cell. Rows of cells alternate
// in direction, so that boxes near in the order are near in the image. Only speed depends on it.
template <class S>
void sort_by_cell(const S* boxes, int64_t count, int64_t*& order, int64_t* sorted, int64_t* cell,
                  int64_t* cell_start) {
  double left = 1e300, top = 1e300, right = -1e300, bottom = -1e300;
  for (int64_t k = 0; k < count; ++k) {
    const auto b = load_box(boxes + 4 * order[k]);
    const double x = centre<double>(b.x1, b.x2), y = centre<double>(b.y1, b.y2);
    left = x < left ? x : left, right = x > right ? x : right;
    top = y < top ? y : top, bottom = y > bottom ? y : bottom;
  }
  const double wide = right - left, tall = bottom - top, share = double(kBlock) / double(count);
  if (!(wide >= 0 && wide < 1e150 && tall >= 0 && tall < 1e150)) return;
  // `line` limits the number of cells if all boxes are on one line
  const double square = ::sqrt(wide * tall * share), line = lane_max(wide, tall) * share;
  const double size = lane_max(square, line);
  if (!(size > 0)) return;
  const int64_t columns = int64_t(wide / size) + 1, rows = int64_t(tall / size) + 1;
  auto index = [](double at, int64_t limit) {
    return !(at > 0) ? 0 : at >= double(limit - 1) ? limit - 1 : int64_t(at);
  };
  for (int64_t c = 0; c <= columns * rows; ++c) cell_start[c] = 0;
  for (int64_t k = 0; k < count; ++k) {
    const auto b = load_box(boxes + 4 * order[k]);
    const int64_t column = index((centre<double>(b.x1, b.x2) - left) / size, columns);
    const int64_t row = index((centre<double>(b.y1, b.y2) - top) / size, rows);
    cell[k] = row * columns + (row % 2 ? columns - 1 - column : column);
    ++cell_start[cell[k] + 1];
  }
  for (int64_t c = 0; c < columns * rows; ++c) cell_start[c + 1] += cell_start[c];
  for (int64_t k = 0; k < count; ++k) sorted[cell_start[cell[k]]++] = order[k];
  order = sorted;
}

void sort_ascending(int64_t* values, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const int64_t value = values[i];
    int64_t j = i;
    for (; j > 0 && values[j - 1] > value; --j) values[j] = values[j - 1];
    values[j] = value;
  }
}

template <SoftNmsMethod method, class T>
struct Pool {
  const Workspace<T>& w;
  const SoftNmsRule<T> rule;
  int64_t blocks = 0;

  static constexpr T inf = T(__builtin_inf());

  template <class S, class ScoreS>
  void fill(const SoftNmsParams& p) {
    const S* boxes = static_cast<const S*>(p.boxes);
    const ScoreS* scores = static_cast<const ScoreS*>(p.scores);
    int64_t count = 0;
    for (int64_t i = 0; i < p.n; ++i) {
      if (!has_nan(load_box(boxes + 4 * i)) && T(widen(scores[i])) >= rule.least)
        w.order[count++] = i;
    }
    int64_t* order = w.order;
    if (count > 2 * kBlock) sort_by_cell(boxes, count, order, w.sorted, w.cell, w.cell_start);
    blocks = divide_up(count, kBlock);
    const BoxArrays<T> slots = w.boxes, hulls = w.hulls;
    for (int64_t slot = count; slot < blocks * kBlock; ++slot)
      slots.put(slot, {inf, inf, -inf, -inf}), w.score[slot] = -inf;
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t begin = block * kBlock, end = at_most(count, begin + kBlock);
      sort_ascending(order + begin, end - begin);
      Box<T> hull{inf, inf, -inf, -inf};
      for (int64_t slot = begin; slot < end; ++slot) {
        const Box<T> b = load_as<S, T>(boxes + 4 * order[slot]);
        slots.put(slot, b);
        w.index[slot] = order[slot], w.score[slot] = T(widen(scores[order[slot]]));
        hull = {lane_min(hull.x1, b.x1), lane_min(hull.y1, b.y1), lane_max(hull.x2, b.x2),
                lane_max(hull.y2, b.y2)};
      }
      hulls.put(block, hull);
      find_best(block);
    }
    for (int64_t block = blocks; block < blocks + kPad; ++block)
      hulls.put(block, {inf, inf, -inf, -inf}), w.best[block] = -inf;
  }

  void find_best(int64_t block) {
    Lanes<T> highest = -inf;
    for (int64_t i = block * kBlock; i < (block + 1) * kBlock; i += Lanes<T>::width)
      highest = lane_max(highest, Lanes<T>::load(w.score + i));
    set_best(block, lane_most(highest));
  }

  void set_best(int64_t block, T best) {
    w.best[block] = best;
    // no box is left in the block
    if (best == -inf) return w.hulls.put(block, {inf, inf, -inf, -inf});
    int64_t i = block * kBlock;
    while (!lane_any(Lanes<T>::load(w.score + i) == Lanes<T>(best))) i += Lanes<T>::width;
    while (w.score[i] != best) ++i;
    w.best_slot[block] = i;
  }

  // The slot of the highest score; ties go to the lowest index. Returns -1 if no box is left.
  int64_t select() const {
    Lanes<T> highest = -inf;
    for (int64_t b = 0; b < blocks; b += Lanes<T>::width)
      highest = lane_max(highest, Lanes<T>::load(w.best + b));
    const T score = lane_most(highest);
    if (score == -inf) return -1;
    int64_t slot = -1;
    for (int64_t b = 0; b < blocks; b += Lanes<T>::width) {
      if (!lane_any(Lanes<T>::load(w.best + b) == Lanes<T>(score))) continue;
      for (int64_t k = b; k < at_most(blocks, b + Lanes<T>::width); ++k)
        if (w.best[k] == score && (slot < 0 || w.index[w.best_slot[k]] < w.index[slot]))
          slot = w.best_slot[k];
    }
    return slot;
  }

  // Removes a box and decays the boxes around it.
  void remove(int64_t slot) {
    w.score[slot] = -inf;
    const Box<T> b = w.boxes[slot];
    // GCC 12 generates slower code for in_all_lanes() here
    const Box<Lanes<T>> wide{b.x1, b.y1, b.x2, b.y2};
    const int64_t own = slot / kBlock;
    for (int64_t first = 0; first < blocks; first += Lanes<T>::width) {
      uint32_t bits = lane_bits(overlapping<T>(w.hulls.lanes(first), wide));
      for (; bits; bits &= bits - 1) {
        const int64_t block = first + __builtin_ctz(bits);
        if (block != own) decay(block, wide);
      }
    }
    decay(own, wide);  // always, even if nothing overlaps: the block has lost a box
  }

  void decay(int64_t block, const Box<Lanes<T>>& selected) {
    const auto s = measure<IouKind::iou>(selected);
    Lanes<T> highest = -inf;
    for (int64_t i = block * kBlock; i < (block + 1) * kBlock; i += Lanes<T>::width) {
      const Box<Lanes<T>> box = w.boxes.lanes(i);
      Lanes<T> score = Lanes<T>::load(w.score + i);
      if (lane_any(overlapping<T>(box, selected))) {
        const IouEps<Lanes<T>> eps{T(0), T(0)};
        const Lanes<T> q = overlap<IouKind::iou>(s, measure<IouKind::iou>(box), eps);
        score = decayed(score, q);
        score = lane_select(score >= Lanes<T>(rule.least), score, Lanes<T>(-inf));
        score.store(w.score + i);
      }
      highest = lane_max(highest, score);
    }
    set_best(block, lane_most(highest));
  }

  DETCORE_HD Lanes<T> decayed(Lanes<T> score, Lanes<T> q) const {
    if constexpr (method == SoftNmsMethod::linear) {
      const SoftNmsRule<Lanes<T>> wide{rule.above, rule.sigma, rule.least};
      return decayed_score<method>(wide, score, q);
    } else {  // scalar exp, which gives the same bits on every instruction set
      T scores[Lanes<T>::width], qs[Lanes<T>::width];
      score.store(scores), q.store(qs);
      for (int l = 0; l < Lanes<T>::width; ++l)
        if (qs[l] > T(0)) scores[l] = decayed_score<method>(rule, scores[l], qs[l]);
      return Lanes<T>::load(scores);
    }
  }
};

template <SoftNmsMethod method, class S, class ScoreS, class T>
void run(const SoftNmsParams& p) {
  Arena arena{static_cast<char*>(p.workspace)};
  const Workspace<T> w(p.n, arena);
  Pool<method, T> pool{w, rule_of<T>(p)};
  pool.template fill<S, ScoreS>(p);
  int64_t count = 0;
  for (int64_t slot; (slot = pool.select()) >= 0; ++count) {
    p.keep[count] = w.index[slot];
    narrow(arithmetic_t<ScoreS>(w.score[slot]), static_cast<ScoreS*>(p.decayed)[count]);
    pool.remove(slot);
  }
  *p.count = count;
}

}  // namespace

Status soft_nms(const SoftNmsParams& p, const Executor&) {
  return with_storage(p.boxes_dtype, [&](auto storage) {
    return with_storage(p.scores_dtype, [&](auto score_storage) {
      using S = decltype(storage);
      using ScoreS = decltype(score_storage);
      using T = decltype(arithmetic_t<S>{} + arithmetic_t<ScoreS>{});
      if (p.method == SoftNmsMethod::linear)
        run<SoftNmsMethod::linear, S, ScoreS, T>(p);
      else
        run<SoftNmsMethod::gaussian, S, ScoreS, T>(p);
      return Status{};
    });
  });
}

}  // namespace DETCORE_ISA

#if defined(DETCORE_ISA_IS_BASELINE)
size_t soft_nms_workspace_cpu(const SoftNmsParams& p) {
  baseline::Arena arena{nullptr};
  if (p.boxes_dtype == DType::f64 || p.scores_dtype == DType::f64)
    (void)baseline::Workspace<double>(p.n, arena);
  else
    (void)baseline::Workspace<float>(p.n, arena);
  return arena.used;
}
#endif

}  // namespace detcore

DETCORE_CPU_ENTRY(soft_nms, SoftNmsParams)
