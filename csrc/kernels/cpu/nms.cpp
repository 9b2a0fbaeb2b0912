// Greedy NMS in four steps: drop NaN, radix sort by score (then, stably, by class), suppress within
// each class, emit by rank. A candidate is compared only with kept boxes near it: IoU > t bounds
// the distance of centres (see `reach`), so kept boxes are filed in a uniform grid by their centre.
#include "detcore/nms.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kPad = 64;       // slots read past the last kept box, any lane width
constexpr int64_t kGridFrom = 96;  // boxes of a class below which all kept ones are scanned
constexpr int kDigitBits = 8;
constexpr int kDigits = 1 << kDigitBits;

struct Workspace {
  uint64_t *keys, *other_keys;             // [n] sort keys
  int64_t *ranked, *other_ranked;          // [n] indices by score
  int64_t *members, *other_members;        // [n] ranks by class, then by score
  int64_t* segments;                       // [n + 1] where each class begins in `members`
  bool* alive;                             // [n] by rank
  int64_t *cell, *cell_start, *cell_kept;  // [n], [2n + 2], [2n + 2]
  void* slots[5];  // [n + kPad * classes] x1, y1, x2, y2, area of kept boxes

  Workspace(const NmsParams& p, Arena& arena) {
    const int64_t n = p.n;
    keys = arena.take<uint64_t>(n), other_keys = arena.take<uint64_t>(n);
    ranked = arena.take<int64_t>(n), other_ranked = arena.take<int64_t>(n);
    members = p.ids ? arena.take<int64_t>(n) : nullptr;
    other_members = p.ids ? arena.take<int64_t>(n) : nullptr;
    segments = arena.take<int64_t>(n + 1);
    alive = arena.take<bool>(n);
    cell = arena.take<int64_t>(n);
    cell_start = arena.take<int64_t>(2 * n + 2), cell_kept = arena.take<int64_t>(2 * n + 2);
    // a class of m boxes has m + kPad slots; small ones share the stack's instead
    const int64_t count = n + kPad * (n / kGridFrom + 1);
    for (void*& slot : slots)
      slot = arena.take<char>(count * (p.boxes_dtype == DType::f64 ? 8 : 4));
  }
};

// Ascending keys are descending scores; -0 counts as +0.
DETCORE_HD uint64_t descending_key(float x) {
  uint32_t bits = bit_cast<uint32_t>(x + 0.0f);
  return ~(bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u)) & 0xffffffffu;
}
DETCORE_HD uint64_t descending_key(double x) {
  uint64_t bits = bit_cast<uint64_t>(x + 0.0);
  return ~(bits ^ (bits >> 63 ? ~uint64_t(0) : uint64_t(1) << 63));
}

// Stable sort by key; the sorted pairs end in keys and values (both swapped as needed).
void radix_sort(uint64_t*& keys, int64_t*& values, uint64_t*& other_keys, int64_t*& other_values,
                int64_t n) {
  uint64_t differ = 0;
  for (int64_t i = 1; i < n; ++i) differ |= keys[i] ^ keys[0];
  for (int shift = 0; shift < 64; shift += kDigitBits) {
    if ((differ >> shift & (kDigits - 1)) == 0) continue;  // all keys agree on this digit
    int64_t start[kDigits] = {};
    for (int64_t i = 0; i < n; ++i) ++start[keys[i] >> shift & (kDigits - 1)];
    int64_t sum = 0;
    for (int64_t& s : start) {
      int64_t count = s;
      s = sum;
      sum += count;
    }
    for (int64_t i = 0; i < n; ++i) {
      int64_t to = start[keys[i] >> shift & (kDigits - 1)]++;
      other_keys[to] = keys[i];
      other_values[to] = values[i];
    }
    uint64_t* k = keys;
    keys = other_keys, other_keys = k;
    int64_t* v = values;
    values = other_values, other_values = v;
  }
}

// For short lists the digit tables cost more than they save.
void insertion_sort(uint64_t* keys, int64_t* values, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const uint64_t key = keys[i];
    const int64_t value = values[i];
    int64_t j = i;
    for (; j > 0 && keys[j - 1] > key; --j) keys[j] = keys[j - 1], values[j] = values[j - 1];
    keys[j] = key, values[j] = value;
  }
}

void stable_sort(uint64_t*& keys, int64_t*& values, uint64_t*& other_keys, int64_t*& other_values,
                 int64_t n) {
  if (n <= 48)
    insertion_sort(keys, values, n);
  else
    radix_sort(keys, values, other_keys, other_values, n);
}

// The decision `double(inter / union) > threshold`, for floats and lanes of them.
template <class T>
struct Decision {
  T below;   // the largest T not above the threshold: q > threshold just when q > below
  T surely;  // inter < surely * union can't reach it, whatever the quotient's rounding

  explicit Decision(double threshold) {
    below = T(threshold);
    if (double(below) > threshold) below = ::nextafterf(float(below), 0.0f);
    surely = below * T(1 - 1e-6);
  }
  DETCORE_HD bool any(const Box<Lanes<T>>& kept, Lanes<T> kept_area, const Box<Lanes<T>>& box,
                      Lanes<T> area) const {
    const Lanes<T> inter = intersection(kept, box);
    const Lanes<T> uni = kept_area + area - inter;
    if (!lane_any(inter >= Lanes<T>(surely) * uni)) return false;
    return lane_any(inter / uni > Lanes<T>(below));
  }
};

// Kept boxes, laid out for lanes. Slots not yet filled hold boxes that overlap nothing.
template <class T>
struct KeptBoxes {
  T *x1, *y1, *x2, *y2, *area;

  void clear(int64_t count) {
    const T inf = T(__builtin_inf());
    for (int64_t i = 0; i < count; ++i) x1[i] = y1[i] = inf, x2[i] = y2[i] = -inf, area[i] = T(0);
  }
  DETCORE_HD void put(int64_t slot, const Box<T>& b) {
    x1[slot] = b.x1, y1[slot] = b.y1, x2[slot] = b.x2, y2[slot] = b.y2, area[slot] = b.area();
  }
  // Does a box in [begin, end), or one that stands right after it, suppress this one?
  DETCORE_HD bool suppress(const Box<T>& box, int64_t begin, int64_t end,
                           const Decision<T>& decision) const {
    const Box<Lanes<T>> wide{box.x1, box.y1, box.x2, box.y2};
    const Lanes<T> wide_area = box.area();
    for (int64_t i = begin; i < end; i += Lanes<T>::width) {
      const Box<Lanes<T>> kept{Lanes<T>::load(x1 + i), Lanes<T>::load(y1 + i),
                               Lanes<T>::load(x2 + i), Lanes<T>::load(y2 + i)};
      if (decision.any(kept, Lanes<T>::load(area + i), wide, wide_area)) return true;
    }
    return false;
  }
};

// A uniform grid over box centres, sized so that it has no more cells than boxes.
template <class T>
struct Grid {
  double left, top, per_cell, max_w = 0, max_h = 0;
  double slack = 0;  // what the rounding of centres may move them: matters beyond 2^51
  int64_t columns, rows;

  int64_t column(double x) const { return index((x - left) * per_cell, columns); }
  int64_t row(double y) const { return index((y - top) * per_cell, rows); }
  static int64_t index(double at, int64_t size) {
    return at <= 0 ? 0 : at >= double(size - 1) ? size - 1 : int64_t(at);
  }
};

// How far along one axis the centre of a box can be that reaches IoU > t with one of width w.
// With overlap o along the axis, IoU <= o / max(w, w'), and the distance is at most
// (w + w') / 2 - o < (w + w') / 2 - t max(w, w'), w' <= w / t. Widened by far more than rounding.
DETCORE_HD double reach(double w, double max_w, double t) {
  double equal = w * (1 - t);
  double wider = t < 0.5 ? 0.5 * w + (0.5 - t) * (t * max_w < w ? max_w : w / t) : 0.0;
  double r = equal > wider ? equal : wider;
  return (r > 0 ? r : 0) * 1.0001 + w * 1e-3;
}

DETCORE_HD double centre(double low, double high) { return 0.5 * low + 0.5 * high; }

// Suppression within one class.
template <class S, class T = arithmetic_t<S>>
struct Segment {
  const NmsParams& p;
  const int64_t* ranked;   // [n] indices by score
  const int64_t* members;  // [m] ranks, ascending; null: 0 to m - 1
  int64_t m;
  bool* alive;  // by rank
  Decision<T> decision;
  KeptBoxes<T> kept;

  DETCORE_HD int64_t rank(int64_t i) const { return members ? members[i] : i; }
  DETCORE_HD Box<T> box(int64_t i) const {
    return load_box(static_cast<const S*>(p.boxes) + 4 * ranked[rank(i)]);
  }
  DETCORE_HD static bool has_area(const Box<T>& b) { return b.width() > T(0) && b.height() > T(0); }

  void scan_all() {
    kept.clear(Lanes<T>::width);
    int64_t count = 0;
    for (int64_t i = 0; i < m; ++i) {
      const Box<T> b = box(i);
      const bool overlaps = has_area(b);
      const bool keep = !overlaps || !kept.suppress(b, 0, count, decision);
      alive[rank(i)] = keep;
      if (!keep || !overlaps) continue;
      kept.put(count++, b);
      if (count % Lanes<T>::width == 0) {
        KeptBoxes<T> next{kept.x1 + count, kept.y1 + count, kept.x2 + count, kept.y2 + count,
                          kept.area + count};
        next.clear(Lanes<T>::width);
      }
    }
  }

  // False if coordinates are such that products might underflow or overflow: `reach` proves
  // nothing then.
  bool fit(Grid<T>& grid) const {
    const double smallest = sizeof(T) == 8 ? 1e-280 : 1e-30, largest = 1 / smallest;
    double right = -1e308, bottom = -1e308, sides = 0, far = 0;
    grid.left = grid.top = 1e308;
    for (int64_t i = 0; i < m; ++i) {
      const Box<T> b = box(i);
      if (!has_area(b)) continue;
      const double w = b.width(), h = b.height(), x = centre(b.x1, b.x2), y = centre(b.y1, b.y2);
      if (!(w * h >= smallest && w * h <= largest && w <= largest && h <= largest)) return false;
      grid.left = x < grid.left ? x : grid.left, grid.top = y < grid.top ? y : grid.top;
      const double corners[] = {b.x1, b.y1, b.x2, b.y2};
      for (double at : corners) far = at > far ? at : -at > far ? -at : far;
      right = x > right ? x : right, bottom = y > bottom ? y : bottom;
      grid.max_w = w > grid.max_w ? w : grid.max_w, grid.max_h = h > grid.max_h ? h : grid.max_h;
      sides += 0.5 * (w + h);
    }
    if (sides == 0) return false;
    const double wide = right - grid.left, tall = bottom - grid.top;
    if (!(wide <= largest && tall <= largest)) return false;
    // half a side a cell keeps a search to a few cells; more cells than boxes would stand empty
    double size = 0.5 * sides / double(m);
    while ((wide / size + 1) * (tall / size + 1) > double(m)) size *= 1.3;
    grid.slack = 4 * 2.3e-16 * far;
    grid.per_cell = 1 / size;
    grid.columns = int64_t(wide / size) + 1, grid.rows = int64_t(tall / size) + 1;
    return true;
  }

  // cell: [m]; start, filled: [cells + 1].
  void scan_near(const Grid<T>& grid, int64_t* cell, int64_t* start, int64_t* filled) {
    const int64_t cells = grid.columns * grid.rows;
    for (int64_t c = 0; c <= cells; ++c) start[c] = filled[c] = 0;
    for (int64_t i = 0; i < m; ++i) {
      const Box<T> b = box(i);
      cell[i] = -1;
      if (!has_area(b)) continue;
      cell[i] = grid.row(centre(b.y1, b.y2)) * grid.columns + grid.column(centre(b.x1, b.x2));
      ++start[cell[i] + 1];
    }
    for (int64_t c = 0; c < cells; ++c) start[c + 1] += start[c];
    kept.clear(m + Lanes<T>::width);
    for (int64_t i = 0; i < m; ++i) {
      const bool keep = cell[i] < 0 || !suppressed_nearby(grid, box(i), start, filled);
      alive[rank(i)] = keep;
      if (keep && cell[i] >= 0) kept.put(start[cell[i]] + filled[cell[i]]++, box(i));
    }
  }

  bool suppressed_nearby(const Grid<T>& grid, const Box<T>& b, const int64_t* start,
                         const int64_t* filled) const {
    const double x = centre(b.x1, b.x2), y = centre(b.y1, b.y2);
    const double dx = reach(b.width(), grid.max_w, p.iou_threshold) + grid.slack;
    const double dy = reach(b.height(), grid.max_h, p.iou_threshold) + grid.slack;
    const int64_t column0 = grid.column(x - dx), column1 = grid.column(x + dx);
    const int64_t row0 = grid.row(y - dy), row1 = grid.row(y + dy);
    for (int64_t row = row0; row <= row1; ++row)
      for (int64_t c = row * grid.columns + column0; c <= row * grid.columns + column1; ++c)
        if (kept.suppress(b, start[c], start[c] + filled[c], decision)) return true;
    return false;
  }
};

// Puts the indices of boxes and scores without NaN into ranked, by score; returns how many.
template <class S, class ScoreS>
int64_t rank_by_score(const NmsParams& p, Workspace& w) {
  const S* boxes = static_cast<const S*>(p.boxes);
  const ScoreS* scores = static_cast<const ScoreS*>(p.scores);
  int64_t valid = 0;
  for (int64_t i = 0; i < p.n; ++i) {
    const auto b = load_box(boxes + 4 * i);
    const auto score = widen(scores[i]);
    // x - x is NaN for infinities too, and those are fine: ask each for itself
    if (b.x1 != b.x1 || b.y1 != b.y1 || b.x2 != b.x2 || b.y2 != b.y2 || score != score) continue;
    w.keys[valid] = descending_key(score);
    w.ranked[valid++] = i;
  }
  stable_sort(w.keys, w.ranked, w.other_keys, w.other_ranked, valid);
  return valid;
}

// Groups ranks by class id into members; returns how many classes.
int64_t group_by_class(const NmsParams& p, Workspace& w, int64_t valid) {
  w.segments[0] = 0;
  if (!p.ids || valid == 0) {
    w.segments[1] = valid;
    return valid > 0;
  }
  for (int64_t r = 0; r < valid; ++r)
    w.keys[r] = static_cast<uint64_t>(p.ids[w.ranked[r]]), w.members[r] = r;
  stable_sort(w.keys, w.members, w.other_keys, w.other_members, valid);
  int64_t classes = 0;
  for (int64_t r = 1; r < valid; ++r)
    if (w.keys[r] != w.keys[r - 1]) w.segments[++classes] = r;
  w.segments[++classes] = valid;
  return classes;
}

template <class S>
void suppress_class(const NmsParams& p, const Workspace& w, int64_t begin, int64_t end) {
  using T = arithmetic_t<S>;
  Segment<S> segment{p,           w.ranked, w.members ? w.members + begin : nullptr,
                     end - begin, w.alive,  Decision<T>(p.iou_threshold),
                     {}};
  if (segment.m == 1) {
    w.alive[segment.rank(0)] = true;
    return;
  }
  if (segment.m < kGridFrom) {
    alignas(64) T slots[5][kGridFrom + kPad];
    segment.kept = {slots[0], slots[1], slots[2], slots[3], slots[4]};
    return segment.scan_all();
  }
  T* slot[5];
  // classes this large number at most begin / kGridFrom before this one
  for (int i = 0; i < 5; ++i)
    slot[i] = static_cast<T*>(w.slots[i]) + begin + kPad * (begin / kGridFrom);
  segment.kept = {slot[0], slot[1], slot[2], slot[3], slot[4]};
  Grid<T> grid;
  if (segment.fit(grid))
    segment.scan_near(grid, w.cell + begin, w.cell_start + 2 * begin, w.cell_kept + 2 * begin);
  else
    segment.scan_all();
}

}  // namespace

Status nms(const NmsParams& p, const Executor& executor) {
  Arena arena{static_cast<char*>(p.workspace)};
  Workspace w(p, arena);
  return with_storage(p.boxes_dtype, [&](auto storage) {
    return with_storage(p.scores_dtype, [&](auto score_storage) {
      using S = decltype(storage);
      const int64_t valid = rank_by_score<S, decltype(score_storage)>(p, w);
      const int64_t classes = group_by_class(p, w, valid);
      const int64_t grain = 1 + classes * 512 / (valid + 1);
      parallel_for(executor, classes, grain, [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end; ++c)
          suppress_class<S>(p, w, w.segments[c], w.segments[c + 1]);
      });
      int64_t count = 0;
      for (int64_t r = 0; r < valid; ++r) {
        p.keep[count] = w.ranked[r];
        count += w.alive[r];
      }
      *p.count = count;
      return Status{};
    });
  });
}

}  // namespace DETCORE_ISA

#if defined(DETCORE_ISA_IS_BASELINE)
size_t nms_workspace_cpu(const NmsParams& params) {
  baseline::Arena arena{nullptr};
  baseline::Workspace layout(params, arena);
  (void)layout;
  return arena.used;
}
#endif

}  // namespace detcore

DETCORE_CPU_ENTRY(nms, NmsParams)
