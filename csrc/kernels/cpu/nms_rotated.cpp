// nms_rotated, nms_3d, nms_bev, batched_nms_rotated, batched_nms_3d and batched_nms_bev:
//
//   drop boxes and scores that can't be kept, sort by score, group by class     score_ranking.h
//   measure the boxes, and the upright boxes around them
//   for each class, for each block of boxes, best first:
//     in parallel: drop each box that an earlier kept one suppresses            grid
//     one by one: keep each box that none of the block's own kept ones does
//     insert these into the grid
//
// Upright boxes that meet are only candidates. A vector of them is compared at once. Boxes in space
// go the same way, by the upright boxes around what is seen of them from above.
#include "detcore/nms_rotated.h"

#include "box_grid.h"
#include "rotated_arrays.h"
#include "score_ranking.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

using L = Lanes<double>;

constexpr int64_t kMostBoxes = int64_t(1) << 29;  // slots of the grid must fit 32 bits
constexpr int64_t kGridFrom = 256;                // with fewer boxes, each meets all kept ones
constexpr int64_t kBlock = 512;
constexpr int64_t kGrain = 32;    // boxes per thread
constexpr int64_t kSlotPad = 16;  // slots that may be read past the last, for any lane width

// Kept boxes: the upright boxes around them, and their places among the class's boxes.
struct KeptSlots {
  BoxArrays<double> around;
  int32_t* place;

  static KeptSlots take(Arena& arena, int64_t count) {
    return {BoxArrays<double>::take(arena, count + kSlotPad), arena.take<int32_t>(count)};
  }
  KeptSlots from(int64_t begin) const { return {around.from(begin), place + begin}; }
  void put(int64_t i, const Box<double>& b, int64_t at) const {
    around.put(i, b);
    place[i] = int32_t(at);
  }
  // One bit per lane, from slot i on: whether that box and this one meet.
  DETCORE_HD uint32_t meeting(int64_t i, int64_t count, const Box<L>& b) const {
    const Box<L> o = around.lanes(i);
    const uint32_t bits = lane_bits((o.x1 < b.x2) & (b.x1 < o.x2) & (o.y1 < b.y2) & (b.y1 < o.y2));
    return count < L::width ? bits & ((1u << count) - 1) : bits;
  }
};

template <class Arrays>
struct Scratch {
  RankedBoxes<double> around;     // [n] upright boxes, by class, then by score
  Arrays boxes;                   // [n] in the same order
  KeptSlots slots;                // [n] by cell
  int32_t* cell;                  // [n]
  uint32_t *cell_start, *filled;  // [2 n + 2]

  Scratch(int64_t n, Arena& arena)
      : around{BoxArrays<double>::take(arena, n + kSlotPad), n},
        boxes(Arrays::take(arena, n)),
        slots(KeptSlots::take(arena, n)),
        cell(arena.take<int32_t>(n)),
        cell_start(arena.take<uint32_t>(2 * n + 2)),
        filled(arena.take<uint32_t>(2 * n + 2)) {}
};

// One class, whose boxes are [begin, begin + m) of the scratch. T is the type that IoUs are rounded
// to.
template <class T, class Arrays>
class RotatedNms {
 public:
  RotatedNms(const Scratch<Arrays>& s, int64_t begin, int64_t m, double threshold, bool* alive,
             const Executor& executor)
      : around(s.around.from(begin, m)),
        boxes(s.boxes.from(begin)),
        slots(s.slots.from(begin)),
        filled(s.filled + 2 * begin),
        threshold(threshold),
        alive(alive),
        executor(executor),
        grid(s.cell + begin, s.cell_start + 2 * begin) {}

  void run() {
    gridded = around.m >= kGridFrom && grid.measure(around);
    if (gridded) {
      grid.count_boxes(around, 1.0, 1.0, executor);
      memset(filled, 0, grid.cells() * sizeof(uint32_t));
    }
    double own[4][kBlock + kSlotPad];
    int32_t place[kBlock];
    const KeptSlots fresh{{own[0], own[1], own[2], own[3]}, place};
    for (int64_t first = 0; first < around.m; first += kBlock) {
      const int64_t count = at_most(kBlock, around.m - first);
      parallel_for(executor, count, kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = first + begin; i < first + end; ++i) alive[i] = !suppressed_by_earlier(i);
      });
      int64_t added = 0;
      for (int64_t i = first; i < first + count; ++i) {
        if (!alive[i] || !has_area(around[i])) continue;
        Query query(*this, i);
        alive[i] = !query.suppressed_by(fresh, 0, added) && !query.rest_suppresses();
        if (alive[i]) fresh.put(added++, around[i], i);
      }
      for (int64_t k = 0; k < added; ++k) insert(fresh.around[k], fresh.place[k]);
    }
  }

 private:
  const RankedBoxes<double> around;
  const Arrays boxes;
  const KeptSlots slots;  // by cell, or as they come
  uint32_t* filled;       // slots of each cell
  const double threshold;
  bool* alive;
  const Executor& executor;
  BoxGrid<double> grid;
  bool gridded = false;
  int64_t kept = 0;

  // One box that looks for a kept one that suppresses it.
  struct Query {
    const RotatedNms& of;
    const decltype(boxes.in_all_lanes(0)) own;
    const Box<L> around;
    int32_t found[2 * L::width];
    int64_t waiting = 0;

    Query(const RotatedNms& of, int64_t i)
        : of(of), own(of.boxes.in_all_lanes(i)), around(in_all_lanes(of.around[i])) {}

    // Fewer than a vector of candidates may wait, for rest_suppresses().
    bool suppressed_by(const KeptSlots& slots, int64_t begin, int64_t end) {
      for (; begin < end; begin += L::width) {
        for (uint32_t bits = slots.meeting(begin, end - begin, around); bits; bits &= bits - 1)
          found[waiting++] = slots.place[begin + __builtin_ctz(bits)];
        if (waiting < L::width) continue;
        if (first_vector_suppresses()) return true;
        waiting -= L::width;
        for (int64_t k = 0; k < waiting; ++k) found[k] = found[k + L::width];
      }
      return false;
    }
    bool rest_suppresses() {
      if (waiting == 0) return false;
      for (int64_t k = waiting; k < L::width; ++k) found[k] = found[0];
      return first_vector_suppresses();
    }
    bool first_vector_suppresses() const {
      double iou[L::width];
      rotated_overlap(of.boxes.gather(found), own).store(iou);
      bool any = false;
      for (double v : iou) any |= double(T(v)) > of.threshold;
      return any;
    }
  };

  bool suppressed_by_earlier(int64_t i) const {
    const Box<double> b = around[i];
    if (!has_area(b)) return false;
    Query query(*this, i);
    if (!gridded) return query.suppressed_by(slots, 0, kept) || query.rest_suppresses();
    const double x = centre(b.x1, b.x2), y = centre(b.y1, b.y2);
    const double dx = reach(grid.across, b.width()), dy = reach(grid.down, b.height());
    auto suppressed = [&](int64_t c0, int64_t c1) {
      for (int64_t c = c0; c <= c1; ++c)
        if (query.suppressed_by(slots, grid.cell_start[c], grid.cell_start[c] + filled[c]))
          return true;
      return false;
    };
    return grid.any_range(int32_t(grid.down.cell(y - dy)), int32_t(grid.down.cell(y + dy)),
                          int32_t(grid.across.cell(x - dx)), int32_t(grid.across.cell(x + dx)),
                          suppressed) ||
           query.rest_suppresses();
  }

  // The maximum distance, along an axis, between the centre of a box whose upright one has side w
  // and that of one that it may suppress. The part of a rectangle of extent w' that lies within w
  // is at most 2 w / w', so w' <= 2 w / threshold.
  double reach(const GridAxis<double>& axis, double w) const {
    return 0.5 * (w + lane_min(axis.widest, w * (2.001 / threshold))) * 1.0001;
  }

  void insert(const Box<double>& b, int64_t place) {
    if (!gridded) return slots.put(kept++, b, place);
    const int32_t c = grid.cell[place];
    if (c >= 0) slots.put(grid.cell_start[c] + filled[c]++, b, place);
  }
};

template <class Arrays>
struct Workspace {
  ScoreRanking ranking;
  Scratch<Arrays> scratch;
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
  w.ranking.sort(static_cast<const ScoreS*>(p.scores), p.n, [&](int64_t i) {
    bool finite = true;
    for (int64_t k = 0; k < numbers; ++k) {
      const auto v = widen(boxes[numbers * i + k]);
      finite &= v - v == 0;
    }
    return finite;
  });
  parallel_for(executor, w.ranking.valid, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto box = measure_rotated_box(Geometry{}, p.kind, boxes, w.ranking.index(i));
      w.scratch.boxes.put(i, box);
      w.scratch.around.put(i, box_around(box));
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
