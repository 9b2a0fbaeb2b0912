#include "detcore/box_iou.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kRows = 16;      // rows that share one measured tile of columns
constexpr int64_t kColumns = 512;  // 6 arrays of them fit L1 beside the rows written

// Boxes measured and laid out for lanes.
template <class T>
struct Tile {
  static constexpr int64_t padded = kColumns + Lanes<T>::width;
  alignas(64) T x1[padded], y1[padded], x2[padded], y2[padded], size[padded], angle[padded];

  DETCORE_HD MeasuredBox<Lanes<T>> at(int64_t i) const {
    MeasuredBox<Lanes<T>> m;
    m.x1 = Lanes<T>::load(x1 + i), m.y1 = Lanes<T>::load(y1 + i);
    m.x2 = Lanes<T>::load(x2 + i), m.y2 = Lanes<T>::load(y2 + i);
    m.size = Lanes<T>::load(size + i), m.angle = Lanes<T>::load(angle + i);
    return m;
  }
};

template <class T>
DETCORE_HD Box<Lanes<T>> to_xyxy(const Box<Lanes<T>>& b, BoxFormat format) {
  return to_xyxy(format, b.x1, b.y1, b.x2, b.y2);
}

template <IouKind kind, class S, class T = arithmetic_t<S>>
void fill(Tile<T>& tile, const S* boxes, int64_t count, BoxFormat format) {
  constexpr int width = Lanes<T>::width;
  for (int64_t i = 0; i < count; i += width) {
    const auto m =
        measure<kind>(to_xyxy(load_boxes(boxes + 4 * i, at_most(width, count - i)), format));
    m.x1.store(tile.x1 + i), m.y1.store(tile.y1 + i), m.x2.store(tile.x2 + i);
    m.y2.store(tile.y2 + i), m.size.store(tile.size + i), m.angle.store(tile.angle + i);
  }
}

// One box in all lanes.
template <IouKind kind, class S, class L = Lanes<arithmetic_t<S>>>
DETCORE_HD MeasuredBox<L> broadcast(const S* box, BoxFormat format) {
  const auto b = load_box(box);
  return measure<kind>(to_xyxy(format, L(b.x1), L(b.y1), L(b.x2), L(b.y2)));
}

template <IouKind kind, class S, class T = arithmetic_t<S>>
void forward(const BoxIouParams& p, const Executor& executor) {
  const int64_t row_tiles = divide_up(p.n, kRows), column_tiles = divide_up(p.m, kColumns);
  const IouEps<Lanes<T>> eps{T(0), T(p.eps)};
  parallel_for(executor, p.batch * row_tiles * column_tiles, 4, [&](int64_t begin, int64_t end) {
    Tile<T> tile;
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t batch = unit / (row_tiles * column_tiles);
      const int64_t row0 = unit / column_tiles % row_tiles * kRows;
      const int64_t column0 = unit % column_tiles * kColumns;
      const int64_t columns = at_most(kColumns, p.m - column0);
      const S* boxes1 = static_cast<const S*>(p.boxes1) + 4 * batch * p.n;
      const S* boxes2 = static_cast<const S*>(p.boxes2) + 4 * (batch * p.m + column0);
      fill<kind>(tile, boxes2, columns, p.format);
      for (int64_t i = row0; i < at_most(p.n, row0 + kRows); ++i) {
        const auto row = broadcast<kind>(boxes1 + 4 * i, p.format);
        T* out = static_cast<T*>(p.out) + (batch * p.n + i) * p.m + column0;
        int64_t j = 0;
        for (; j + Lanes<T>::width <= columns; j += Lanes<T>::width)
          overlap<kind>(row, tile.at(j), eps).store(out + j);
        if (j < columns) overlap<kind>(row, tile.at(j), eps).store(out + j, columns - j);
      }
    }
  });
}

// Gradients of one side: every `own` box sums over all `other` boxes, in lanes and then as a tree.
// `own_is_first` says which argument of the overlap it is; grad strides tell where g(own, other)
// is.
template <IouKind kind, bool own_is_first, class S, class T = arithmetic_t<S>>
void backward_side(const BoxIouBackwardParams& p, const Executor& executor) {
  const BoxIouParams& f = p.forward;
  const int64_t owns = own_is_first ? f.n : f.m, others = own_is_first ? f.m : f.n;
  const S* own_boxes = static_cast<const S*>(own_is_first ? f.boxes1 : f.boxes2);
  const S* other_boxes = static_cast<const S*>(own_is_first ? f.boxes2 : f.boxes1);
  T* out = static_cast<T*>(own_is_first ? p.grad_boxes1 : p.grad_boxes2);
  const IouEps<Lanes<T>> eps{T(0), T(f.eps)};
  constexpr int width = Lanes<T>::width;

  parallel_for(executor, f.batch * owns, 1 + 4096 / (others + 1), [&](int64_t begin, int64_t end) {
    Tile<T> tile;
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t batch = unit / owns, i = unit % owns;
      const T* grad = static_cast<const T*>(p.grad_out) + batch * f.n * f.m;
      const auto own = broadcast<kind>(own_boxes + 4 * unit, f.format);
      Box<Lanes<T>> sum{T(0), T(0), T(0), T(0)}, ignored = sum;
      for (int64_t first = 0; first < others; first += kColumns) {
        const int64_t count = at_most(kColumns, others - first);
        fill<kind>(tile, other_boxes + 4 * (batch * others + first), count, f.format);
        for (int64_t j = 0; j < count; j += width) {
          const int64_t lanes = at_most(width, count - j);
          T g[width] = {};
          for (int64_t l = 0; l < lanes; ++l)
            g[l] = own_is_first ? grad[i * f.m + first + j + l] : grad[(first + j + l) * f.m + i];
          const Lanes<T> g_lanes = Lanes<T>::load(g);
          Box<Lanes<T>> part{T(0), T(0), T(0), T(0)};
          if (own_is_first)
            overlap_backward<kind>(own, tile.at(j), eps, g_lanes, part, ignored);
          else
            overlap_backward<kind>(tile.at(j), own, eps, g_lanes, ignored, part);
          // a padding lane's 0 / 0 must not reach the sum
          T index[width];
          for (int l = 0; l < width; ++l) index[l] = T(l);
          const Mask<T> inside = Lanes<T>::load(index) < Lanes<T>(T(lanes));
          sum.x1 = sum.x1 + lane_select(inside, part.x1, Lanes<T>(T(0)));
          sum.y1 = sum.y1 + lane_select(inside, part.y1, Lanes<T>(T(0)));
          sum.x2 = sum.x2 + lane_select(inside, part.x2, Lanes<T>(T(0)));
          sum.y2 = sum.y2 + lane_select(inside, part.y2, Lanes<T>(T(0)));
        }
      }
      out[4 * unit + 0] = lane_sum(sum.x1), out[4 * unit + 1] = lane_sum(sum.y1);
      out[4 * unit + 2] = lane_sum(sum.x2), out[4 * unit + 3] = lane_sum(sum.y2);
    }
  });
}

}  // namespace

Status box_iou(const BoxIouParams& p, const Executor& executor) {
  if (p.batch * p.n * p.m == 0) return {};
  return with_storage(p.dtype, [&](auto storage) {
    return with_kind(p.kind, [&](auto kind) {
      forward<decltype(kind)::value, decltype(storage)>(p, executor);
      return Status{};
    });
  });
}

Status box_iou_backward(const BoxIouBackwardParams& p, const Executor& executor) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    return with_kind(p.forward.kind, [&](auto kind) {
      constexpr IouKind k = decltype(kind)::value;
      if (p.grad_boxes1) backward_side<k, true, decltype(storage)>(p, executor);
      if (p.grad_boxes2) backward_side<k, false, decltype(storage)>(p, executor);
      return Status{};
    });
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(box_iou, BoxIouParams)
DETCORE_CPU_ENTRY(box_iou_backward, BoxIouBackwardParams)
