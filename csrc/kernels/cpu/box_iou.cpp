#include "detcore/box_iou.h"

#include "box_arrays.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kRows = 16;      // rows that share one measured tile of columns
constexpr int64_t kColumns = 512;  // 6 such arrays and the written rows fit L1

template <IouKind kind, class T>
using Tile = BoxTile<kind, T, kColumns>;

template <class T>
DETCORE_HD Box<Lanes<T>> to_xyxy(const Box<Lanes<T>>& b, BoxFormat format) {
  return to_xyxy(format, b.x1, b.y1, b.x2, b.y2);
}

template <IouKind kind, class S, class T = arithmetic_t<S>>
void fill(Tile<kind, T>& tile, const S* boxes, int64_t count, BoxFormat format) {
  constexpr int width = Lanes<T>::width;
  for (int64_t i = 0; i < count; i += width) {
    const auto b = load_boxes(boxes + 4 * i, at_most(width, count - i));
    tile.put_lanes(i, measure<kind>(to_xyxy(b, format)));
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
    Tile<kind, T> tile;
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
          overlap<kind>(row, tile.lanes(j), eps).store(out + j);
        if (j < columns) overlap<kind>(row, tile.lanes(j), eps).store(out + j, columns - j);
      }
    }
  });
}

template <class T>
DETCORE_HD void add(Box<Lanes<T>>& sum, const Box<Lanes<T>>& part) {
  sum.x1 = sum.x1 + part.x1, sum.y1 = sum.y1 + part.y1;
  sum.x2 = sum.x2 + part.x2, sum.y2 = sum.y2 + part.y2;
}

// Gradients of boxes1: one box per row of grad_out. Each lane sums along the row, then the lanes
// are added as a tree.
template <IouKind kind, class S, class T = arithmetic_t<S>>
void backward_rows(const BoxIouBackwardParams& p, const Executor& executor) {
  const BoxIouParams& f = p.forward;
  const IouEps<Lanes<T>> eps{T(0), T(f.eps)};
  constexpr int width = Lanes<T>::width;
  parallel_for(executor, f.batch * f.n, 1 + 4096 / (f.m + 1), [&](int64_t begin, int64_t end) {
    Tile<kind, T> tile;
    for (int64_t i = begin; i < end; ++i) {
      const S* boxes2 = static_cast<const S*>(f.boxes2) + 4 * (i / f.n) * f.m;
      const T* grad = static_cast<const T*>(p.grad_out) + i * f.m;
      const auto own = broadcast<kind>(static_cast<const S*>(f.boxes1) + 4 * i, f.format);
      Box<Lanes<T>> sum{T(0), T(0), T(0), T(0)}, ignored = sum;
      for (int64_t first = 0; first < f.m; first += kColumns) {
        const int64_t count = at_most(kColumns, f.m - first);
        fill<kind>(tile, boxes2 + 4 * first, count, f.format);
        for (int64_t j = 0; j < count; j += width) {
          const int64_t lanes = at_most(width, count - j);
          const auto g = Lanes<T>::load(grad + first + j, lanes);
          Box<Lanes<T>> part{T(0), T(0), T(0), T(0)};
          overlap_backward<kind>(own, tile.lanes(j), eps, g, part, ignored);
          if (lanes < width) {  // 0 / 0 in a padding lane must not reach the sum
            const Lanes<T> zero(T(0));
            const Mask<T> inside = lane_indices<T>() < Lanes<T>(T(lanes));
            part = {lane_select(inside, part.x1, zero), lane_select(inside, part.y1, zero),
                    lane_select(inside, part.x2, zero), lane_select(inside, part.y2, zero)};
          }
          add(sum, part);
        }
      }
      T* out = static_cast<T*>(p.grad_boxes1) + 4 * i;
      out[0] = lane_sum(sum.x1), out[1] = lane_sum(sum.y1);
      out[2] = lane_sum(sum.x2), out[3] = lane_sum(sum.y2);
    }
  });
}

// Gradients of boxes2: one box per lane, which sums along its column of grad_out. Several adjacent
// vectors are processed together, to read whole cache lines of each row.
template <IouKind kind, class S, class T = arithmetic_t<S>>
void backward_columns(const BoxIouBackwardParams& p, const Executor& executor) {
  const BoxIouParams& f = p.forward;
  const IouEps<Lanes<T>> eps{T(0), T(f.eps)};
  constexpr int width = Lanes<T>::width, abreast = 4;
  const int64_t strips = divide_up(f.m, width * abreast);
  parallel_for(executor, f.batch * strips, 1 + 256 / (f.n + 1), [&](int64_t begin, int64_t end) {
    Tile<kind, T> tile;
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t batch = unit / strips, column0 = unit % strips * width * abreast;
      const int64_t columns = at_most(width * abreast, f.m - column0);
      const S* boxes1 = static_cast<const S*>(f.boxes1) + 4 * batch * f.n;
      const S* boxes2 = static_cast<const S*>(f.boxes2) + 4 * (batch * f.m + column0);
      const T* grad = static_cast<const T*>(p.grad_out) + batch * f.n * f.m + column0;
      MeasuredBox<Lanes<T>> own[abreast];
      Box<Lanes<T>> sum[abreast], ignored{T(0), T(0), T(0), T(0)};
      for (int k = 0; k < abreast; ++k) {
        const int64_t lanes = at_most(width, at_least(0, columns - k * width));
        own[k] = measure<kind>(to_xyxy(load_boxes(boxes2 + 4 * k * width, lanes), f.format));
        sum[k] = ignored;
      }
      for (int64_t first = 0; first < f.n; first += kColumns) {
        const int64_t count = at_most(kColumns, f.n - first);
        fill<kind>(tile, boxes1 + 4 * first, count, f.format);
        for (int64_t i = 0; i < count; ++i) {
          const auto other = tile.in_all_lanes(i);
          const T* row = grad + (first + i) * f.m;
          for (int k = 0; k * width < columns; ++k) {
            const auto g = Lanes<T>::load(row + k * width, at_most(width, columns - k * width));
            overlap_backward<kind>(other, own[k], eps, g, ignored, sum[k]);
          }
        }
      }
      T* out = static_cast<T*>(p.grad_boxes2) + 4 * (batch * f.m + column0);
      for (int k = 0; k * width < columns; ++k)
        store_boxes(sum[k], out + 4 * k * width, at_most(width, columns - k * width));
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
      if (p.grad_boxes1) backward_rows<k, decltype(storage)>(p, executor);
      if (p.grad_boxes2) backward_columns<k, decltype(storage)>(p, executor);
      return Status{};
    });
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(box_iou, BoxIouParams)
DETCORE_CPU_ENTRY(box_iou_backward, BoxIouBackwardParams)
