// Boxes are few and points are many, so each point finds its boxes by two lookups:
//
//   strips of x  | 0110 | 0100 | ...     one bit per box: whether it reaches into the strip
//   strips of y  | 1110 | 0010 | ...
//   boxes near a point = bits of its strip of x & bits of its strip of y
#include "detcore/points_in_boxes.h"

#include "rotated_arrays.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

using L = Lanes<double>;

constexpr int64_t kStrips = 512;  // per axis
constexpr int64_t kWordBits = 64;
constexpr int64_t kWords = 4;    // are tested at once
constexpr int64_t kChunk = 256;  // points whose strips are computed together

// Cuts [low, high] into strips. Rounding never puts a smaller coordinate into a later strip.
struct StripAxis {
  double low = 0, high = -1, per_strip = 0;  // no boxes yet

  void include(double from, double to, bool first) {
    low = first ? from : lane_min(low, from), high = first ? to : lane_max(high, to);
  }
  void cut() {
    const double scale = double(kStrips) / (high - low);
    per_strip = scale - scale == 0 ? scale : 0;
  }
  // A NaN, which only an infinite extent gives, is in the first strip, as all is then.
  template <class U>
  DETCORE_HD U strip(U x) const {
    return lane_min(lane_max((x - U(low)) * U(per_strip), U(0.0)), U(double(kStrips - 1)));
  }
};

// The boxes of one item of the batch.
struct Finder {
  Box3d<double, double>* boxes;  // [n]
  uint64_t *columns, *rows;      // [strips, words] strips of x, and of y
  int64_t n, words;
  StripAxis x, y, z;

  Finder(int64_t n, Arena& arena)
      : boxes(arena.take<Box3d<double, double>>(n)),
        columns(arena.take<uint64_t>(kStrips * words_for(n))),
        rows(arena.take<uint64_t>(kStrips * words_for(n))),
        n(n),
        words(words_for(n)) {}
  static int64_t words_for(int64_t n) { return divide_up(n, kWordBits * kWords) * kWords; }

  // Measures the boxes, and enters them into the strips that they reach into.
  template <class S>
  void fill(const S* from) {
    bool first = true;
    for (int64_t i = 0; i < n; ++i) {
      boxes[i] = measure_rotated_box(InSpace{}, RotatedKind::in_space, from, i);
      if (!(boxes[i].volume() > 0)) continue;
      const Box<double> around = box_around(boxes[i]);
      x.include(around.x1, around.x2, first), y.include(around.y1, around.y2, first);
      z.include(boxes[i].z - 0.5001 * boxes[i].height, boxes[i].z + 0.5001 * boxes[i].height,
                first);
      first = false;
    }
    x.cut(), y.cut();
    memset(columns, 0, kStrips * words * sizeof(uint64_t));
    memset(rows, 0, kStrips * words * sizeof(uint64_t));
    for (int64_t i = 0; i < n; ++i) {
      if (!(boxes[i].volume() > 0)) continue;
      const Box<double> around = box_around(boxes[i]);
      enter(columns, i, x.strip(around.x1), x.strip(around.x2));
      enter(rows, i, y.strip(around.y1), y.strip(around.y2));
    }
  }
  void enter(uint64_t* strips, int64_t box, double first, double last) const {
    for (int64_t s = int64_t(first); s <= int64_t(last); ++s)
      strips[s * words + box / kWordBits] |= uint64_t(1) << box % kWordBits;
  }

  // Calls f(box) for all boxes that hold the point, in ascending order.
  template <class F>
  DETCORE_HD void each_holder(double px, double py, double pz, int32_t column, int32_t row,
                              const F& f) const {
    const uint64_t *a = columns + column * words, *b = rows + row * words;
    for (int64_t w = 0; w < words; w += kWords) {
      if (!((a[w] & b[w]) | (a[w + 1] & b[w + 1]) | (a[w + 2] & b[w + 2]) | (a[w + 3] & b[w + 3])))
        continue;
      for (int64_t k = w; k < w + kWords; ++k)
        for (uint64_t bits = a[k] & b[k]; bits; bits &= bits - 1) {
          const int64_t box = k * kWordBits + __builtin_ctzll(bits);
          if (holds(boxes[box], px, py, pz)) f(box);
        }
    }
  }
};

// The coordinates of a chunk of points, their strips, and whether they are near any box.
struct Chunk {
  double x[kChunk], y[kChunk], z[kChunk];
  int32_t column[kChunk], row[kChunk];
  uint32_t near[kChunk / L::width];  // bits of a vector of points

  template <class S>
  DETCORE_HD void load(const S* points, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      x[i] = widen(points[3 * i]), y[i] = widen(points[3 * i + 1]), z[i] = widen(points[3 * i + 2]);
    }
    for (int64_t i = count; i < divide_up(count, L::width) * L::width; ++i)
      x[i] = y[i] = z[i] = __builtin_nan("");
  }
  DETCORE_HD void find_strips(const Finder& in, int64_t count) {
    for (int64_t i = 0; i < count; i += L::width) {
      const L px = L::load(x + i), py = L::load(y + i), pz = L::load(z + i);
      near[i / L::width] =
          lane_bits((px >= L(in.x.low)) & (L(in.x.high) >= px) & (py >= L(in.y.low)) &
                    (L(in.y.high) >= py) & (pz >= L(in.z.low)) & (L(in.z.high) >= pz));
      store_whole(in.x.strip(px), column + i), store_whole(in.y.strip(py), row + i);
    }
  }
};

template <class S>
void count_points(const PointsInBoxesParams& p, const Finder& in, int64_t batch, int64_t first,
                  int64_t count) {
  Chunk chunk;
  const int64_t point = batch * p.p + first;
  chunk.load(static_cast<const S*>(p.points) + 3 * point, count);
  chunk.find_strips(in, count);
  int64_t *box_of = p.box_of_point + point, *counts = p.points_of_box + batch * p.n;
  for (int64_t i = 0; i < count; ++i) box_of[i] = -1;
  for (int64_t i = 0; i < count; i += L::width)
    for (uint32_t bits = chunk.near[i / L::width]; bits; bits &= bits - 1) {
      const int64_t k = i + __builtin_ctz(bits);
      in.each_holder(chunk.x[k], chunk.y[k], chunk.z[k], chunk.column[k], chunk.row[k],
                     [&](int64_t box) {
                       if (box_of[k] < 0) box_of[k] = box;
                       __atomic_fetch_add(counts + box, int64_t(1), __ATOMIC_RELAXED);
                     });
    }
}

template <class S>
void points_in_boxes_of(const PointsInBoxesParams& p, const Executor& executor) {
  const int64_t chunks = divide_up(p.p, kChunk);
  memset(p.points_of_box, 0, p.batch * p.n * sizeof(int64_t));
  for (int64_t batch = 0; batch < p.batch; ++batch) {
    Arena arena{static_cast<char*>(p.workspace)};
    Finder in(p.n, arena);
    in.fill(static_cast<const S*>(p.boxes) + 7 * batch * p.n);
    parallel_for(executor, chunks, 4, [&](int64_t begin, int64_t end) {
      for (int64_t c = begin; c < end; ++c)
        count_points<S>(p, in, batch, c * kChunk, at_most(kChunk, p.p - c * kChunk));
    });
  }
}

}  // namespace

Status points_in_boxes(const PointsInBoxesParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    points_in_boxes_of<decltype(storage)>(p, executor);
    return Status{};
  });
}

}  // namespace DETCORE_ISA

#if defined(DETCORE_ISA_IS_BASELINE)
size_t points_in_boxes_workspace_cpu(const PointsInBoxesParams& params) {
  baseline::Arena arena{nullptr};
  (void)baseline::Finder(params.n, arena);
  return arena.used;
}
#endif

}  // namespace detcore

DETCORE_CPU_ENTRY(points_in_boxes, PointsInBoxesParams)
