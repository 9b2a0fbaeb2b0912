// Each lane holds an anchor, and a loop goes over the ground truths. Almost all pairs don't
// overlap. They cost a test of the overlap's sides and no division. For the other pairs we compare
// the exact quotient, so no margins are needed. Consecutive anchors of a grid are near each other,
// so a hull around 128 of them leaves few ground truths to test.
//
// The anchors that tie with a ground truth's best are found afterwards. They are between the first
// anchor that reached the best IoU and the last that equalled it, which is seldom more than a few
// groups.
#include "detcore/match_boxes.h"

#include "match_tiles.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kGroup = 128;  // anchors per hull; all ground truths are tested against the hull
constexpr int64_t kBlock = 512;  // ground truths stored as arrays at once, so that they fit L1
constexpr int64_t kLeastChunk = 2048;
constexpr int64_t kMostChunks = 32;  // per image: limits the memory for the best anchors

template <class Boxes>
const typename Boxes::Storage* box_at(const void* boxes, int64_t i) {
  return static_cast<const typename Boxes::Storage*>(boxes) + Boxes::numbers * i;
}

// The best anchor of each ground truth within one chunk of anchors.
template <class T>
struct GtBests {
  T* iou;          // [gts] 0: no anchor of the chunk overlaps
  int64_t* first;  // [gts] the first anchor with this IoU, counted in the image
  int64_t* last;   // [gts] no anchor after this one ties
  int64_t* ties;   // [gts] scratch: ground truths whose ties are searched

  DETCORE_HD void note(int64_t g, Lanes<T> q, int64_t anchor) {
    if (lane_any(q > Lanes<T>(iou[g]))) {
      T lane[Lanes<T>::width];
      q.store(lane);
      for (int l = 0; l < Lanes<T>::width; ++l)
        if (lane[l] > iou[g]) iou[g] = lane[l], first[g] = anchor + l;
    }
    last[g] = anchor + Lanes<T>::width - 1;
  }
};

// The units of work of one call: chunks of each image's anchors.
struct Chunks {
  int64_t count;  // per image
  explicit Chunks(const MatchBoxesParams& p) {
    count = at_least(1, at_most(kMostChunks, divide_up(p.n, kLeastChunk)));
  }
  int64_t length(const ImageBoxes& image) const {
    return divide_up(divide_up(image.anchors, count), kGroup) * kGroup;
  }
};

template <class T>
struct Workspace {
  Chunks chunks;
  int64_t m;
  T* iou;
  int64_t *first, *last, *ties;  // all [chunks, m]

  Workspace(const MatchBoxesParams& p, Arena& arena) : chunks(p), m(p.m) {
    iou = arena.take<T>(chunks.count * m);
    first = arena.take<int64_t>(chunks.count * m);
    last = arena.take<int64_t>(chunks.count * m);
    ties = arena.take<int64_t>(chunks.count * m);
  }
  GtBests<T> bests(int64_t chunk, int64_t gt) const {
    const int64_t at = chunk * m + gt;
    return {iou + at, first + at, last + at, ties + at};
  }
};

// Matches one chunk of an image's anchors with all ground truths of the image.
template <class Boxes>
struct Chunk {
  using S = typename Boxes::Storage;
  using T = typename Boxes::Arithmetic;
  using Stored = typename Boxes::Stored;
  template <int64_t capacity>
  using Tile = typename Boxes::template Tile<capacity>;

  const MatchBoxesParams& p;
  const ImageBoxes image;
  const int64_t begin, end;  // counted in the image
  const GtBests<T> bests;    // one per ground truth of the image

  const S* gt(int64_t i) const { return box_at<Boxes>(p.gt, image.gt_begin + i); }
  const S* anchor(int64_t i) const { return box_at<Boxes>(p.anchors, image.anchor_begin + i); }
  int64_t* gt_of_anchor() const { return p.gt_of_anchor + image.out_begin; }
  Stored* iou_of_anchor() const { return static_cast<Stored*>(p.iou_of_anchor) + image.out_begin; }
  bool* is_best() const { return p.is_best_for_some_gt + image.out_begin; }

  void match() {
    int64_t first_gt = -1;  // the match of anchors that overlap nothing: the first one without NaN
    for (int64_t i = image.gts - 1; i >= 0; --i) {
      if (!Boxes::is_nan(gt(i))) first_gt = i;
      bests.iou[i] = T(0), bests.first[i] = bests.last[i] = -1;
    }
    Tile<kBlock> gts;
    Tile<kGroup> group;
    int64_t block = 0;
    do {  // at least once: without ground truths, results must be written too
      const int64_t count = at_most(kBlock, image.gts - block);
      gts.fill(gt(block), count);
      for (int64_t base = begin; base < end; base += kGroup) {
        const int64_t size = at_most(kGroup, end - base);
        group.fill(anchor(base), size);
        if (block == 0)
          for (int64_t i = 0; i < size; ++i) {
            gt_of_anchor()[base + i] = group.valid[i] ? first_gt : -1;
            iou_of_anchor()[base + i] = Stored(0);
          }
        match_group(gts, block, count, group, base, size);
      }
      block += kBlock;
    } while (block < image.gts);
  }

  void match_group(const Tile<kBlock>& gts, int64_t block, int64_t count, const Tile<kGroup>& group,
                   int64_t base, int64_t size) {
    int32_t near[kBlock], meet[kBlock + 1];
    const int64_t near_count = gts_near(hull_of<T>(group, size), gts, count, near);
    GtBests<T> own = bests;
    own.iou += block, own.first += block, own.last += block;
    for (int64_t v = 0; near_count && v < size; v += Lanes<T>::width) {
      const int64_t lanes = at_most(Lanes<T>::width, size - v);
      const auto anchor = group.lanes(v);
      const Box<Lanes<T>> around = group.around(v);
      Stored* iou = iou_of_anchor() + base + v;
      Lanes<T> best = Boxes::load(iou, lanes), which = T(-1);
      int64_t meet_count = 0;
      for (int64_t k = 0; k < near_count; ++k) {  // no branch: it would be unpredictable
        meet[meet_count] = near[k];
        meet_count += lane_any(overlapping<T>(gts.around_in_all_lanes(near[k]), around));
      }
      for (int64_t k = 0; k < meet_count; ++k) {
        const int64_t g = meet[k];
        const Lanes<T> q = Boxes::iou(gts.in_all_lanes(g), anchor);
        const Mask<T> better = q > best;
        best = lane_select(better, q, best);
        which = lane_select(better, Lanes<T>(T(g)), which);
        if (lane_any(q >= Lanes<T>(own.iou[g]))) own.note(g, q, base + v);
      }
      Boxes::store(best, iou, lanes);
      T found[Lanes<T>::width];
      which.store(found);
      for (int64_t l = 0; l < lanes; ++l)
        if (found[l] >= T(0)) gt_of_anchor()[base + v + l] = block + int64_t(found[l]);
    }
  }

  // The ground truths of the tile that overlap the hull, ascending. The others overlap no anchor
  // inside it.
  static int64_t gts_near(const Box<Lanes<T>>& hull, const Tile<kBlock>& gts, int64_t count,
                          int32_t* near) {
    int64_t found = 0;
    for (int64_t i = 0; i < count; i += Lanes<T>::width) {
      uint32_t bits = lane_bits(overlapping<T>(gts.around(i), hull));
      for (; bits; bits &= bits - 1) near[found++] = int32_t(i + __builtin_ctz(bits));
    }
    return found;
  }

  // Flags the anchors that tie with a ground truth's best. All chunks must be matched before.
  void flag_ties() {
    const Stored* best = static_cast<const Stored*>(p.iou_of_gt) + image.gt_begin;
    const int64_t* of_gt = p.anchor_of_gt + image.gt_begin;
    bool all = false;
    int64_t count = 0;
    for (int64_t i = 0; i < image.gts; ++i) {
      all |= best[i] == Stored(0) && of_gt[i] >= 0;
      if (best[i] > Stored(0) && bests.iou[i] == T(best[i])) bests.ties[count++] = i;
    }
    // every anchor without NaN ties with a best IoU of 0
    for (int64_t i = begin; i < end; ++i) is_best()[i] = all && gt_of_anchor()[i] >= 0;
    if (all) return;
    Tile<kGroup> group;
    for (int64_t base = begin; count && base < end; base += kGroup) {
      bool filled = false;
      for (int64_t k = 0; k < count; ++k) {
        const int64_t g = bests.ties[k];
        if (bests.first[g] >= base + kGroup || bests.last[g] < base) continue;
        const int64_t size = at_most(kGroup, end - base);
        if (!filled) group.fill(anchor(base), size);
        filled = true;
        flag_group(gt(g), T(best[g]), group, base, size);
      }
    }
  }

  void flag_group(const S* gt, T best, const Tile<kGroup>& group, int64_t base, int64_t size) {
    const auto wide = Boxes::in_all_lanes(gt);
    for (int64_t v = 0; v < size; v += Lanes<T>::width) {
      const Mask<T> ties = Boxes::iou(wide, group.lanes(v)) == Lanes<T>(best);
      for (uint32_t bits = lane_bits(ties); bits; bits &= bits - 1) {
        const int64_t i = v + __builtin_ctz(bits);
        if (i < size) is_best()[base + i] = true;
      }
    }
  }
};

// Merges the best anchors of the chunks. The earlier chunk wins ties, because it has the lower
// indices.
template <class Boxes, class T = typename Boxes::Arithmetic>
void merge(const MatchBoxesParams& p, const Workspace<T>& w, const ImageBoxes& image) {
  // The match of ground truths that overlap nothing: the first one without NaN
  int64_t first_anchor = 0;
  while (first_anchor < image.anchors &&
         Boxes::is_nan(box_at<Boxes>(p.anchors, image.anchor_begin + first_anchor)))
    ++first_anchor;
  if (first_anchor == image.anchors) first_anchor = -1;
  for (int64_t i = 0; i < image.gts; ++i) {
    T best = T(0);
    int64_t anchor = Boxes::is_nan(box_at<Boxes>(p.gt, image.gt_begin + i)) ? -1 : first_anchor;
    for (int64_t c = 0; c < w.chunks.count; ++c) {
      const GtBests<T> chunk = w.bests(c, image.gt_begin + i);
      if (chunk.iou[0] > best) best = chunk.iou[0], anchor = chunk.first[0];
    }
    p.anchor_of_gt[image.gt_begin + i] = anchor;
    static_cast<typename Boxes::Stored*>(p.iou_of_gt)[image.gt_begin + i] = best;
  }
}

template <class Boxes, class T = typename Boxes::Arithmetic>
void run(const MatchBoxesParams& p, const Executor& executor) {
  Arena arena{static_cast<char*>(p.workspace)};
  const Workspace<T> w(p, arena);
  auto each_chunk = [&](int64_t begin, int64_t end, auto&& work) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t c = unit % w.chunks.count;
      const ImageBoxes image = boxes_of_image(p, unit / w.chunks.count);
      const int64_t from = at_most(image.anchors, c * w.chunks.length(image));
      const int64_t to = at_most(image.anchors, from + w.chunks.length(image));
      work(Chunk<Boxes>{p, image, from, to, w.bests(c, image.gt_begin)});
    }
  };
  const int64_t units = p.images * w.chunks.count;
  // a unit must be worth waking a thread; a nanosecond is enough for several pairs
  const int64_t pairs = (p.m / p.images + 8) * (p.n / w.chunks.count + 1);
  const int64_t grain = 1 + 100000 / pairs;
  parallel_for(executor, units, grain, [&](int64_t begin, int64_t end) {
    each_chunk(begin, end, [](auto&& chunk) { chunk.match(); });
  });
  for (int64_t i = 0; i < p.images; ++i) merge<Boxes>(p, w, boxes_of_image(p, i));
  parallel_for(executor, units, grain, [&](int64_t begin, int64_t end) {
    each_chunk(begin, end, [](auto&& chunk) { chunk.flag_ties(); });
  });
}

}  // namespace

Status match_boxes(const MatchBoxesParams& p, const Executor& executor) {
  if (p.images == 0) return {};
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (p.rotated)
      run<RotatedTiles<S>>(p, executor);
    else
      run<UprightTiles<S>>(p, executor);
    return Status{};
  });
}

}  // namespace DETCORE_ISA

#if defined(DETCORE_ISA_IS_BASELINE)
size_t match_boxes_workspace_cpu(const MatchBoxesParams& p) {
  baseline::Arena arena{nullptr};
  if (p.dtype == DType::f64 || p.rotated)
    (void)baseline::Workspace<double>(p, arena);
  else
    (void)baseline::Workspace<float>(p, arena);
  return arena.used;
}
#endif

}  // namespace detcore

DETCORE_CPU_ENTRY(match_boxes, MatchBoxesParams)
