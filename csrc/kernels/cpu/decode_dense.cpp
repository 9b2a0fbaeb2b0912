// The lanes of a vector are consecutive cells in the map's planes, across the ends of rows.
#include "detcore/decode_dense.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// Up to `width` cells of one anchor: where their input begins and where their results are written.
template <class S>
struct CellLanes {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int width = L::width;
  const DecodeDenseParams& p;
  int64_t plane, count;
  const S* raw;   // first plane at the first cell; the next is `plane` further
  int64_t first;  // index of the first cell in boxes and scores; the next is `p.cells` further
  DenseCell<L> geometry;
  L scores[width];  // scores of `width` classes that are not written yet

  DETCORE_HD explicit CellLanes(const DecodeDenseParams& p) : p(p), plane(p.height * p.width) {
    geometry.stride_x = T(p.stride_x), geometry.stride_y = T(p.stride_y);
    geometry.weights = {T(p.weights[0]), T(p.weights[1]), T(p.weights[2]), T(p.weights[3])};
    geometry.clip = T(p.clip), geometry.scale_xy = T(p.scale_xy);
  }

  DETCORE_HD void go_to(int64_t batch, int64_t anchor, int64_t pixel) {
    count = at_most(width, plane - pixel);
    raw = static_cast<const S*>(p.maps) + (batch * p.cells + anchor) * p.per_cell * plane + pixel;
    first = (batch * plane + pixel) * p.cells + anchor;
    const int64_t values = p.codec == DenseCodec::delta ? 4 : 2;
    for (int64_t v = 0; p.anchors && v < values; ++v)
      geometry.anchor[v] = T(static_cast<const double*>(p.anchors)[anchor * values + v]);
    const L one = T(1), end = T(p.width);
    geometry.row = T(pixel / p.width);
    geometry.column = L(T(pixel % p.width)) + lane_indices<T>();
    for (auto over = geometry.column >= end; lane_any(over); over = geometry.column >= end) {
      geometry.row = lane_select(over, geometry.row + one, geometry.row);
      geometry.column = lane_select(over, geometry.column - end, geometry.column);
    }
  }

  DETCORE_HD L value(int64_t k) const {
    if (count == width) return load_lanes(raw + k * plane);
    L part;
    load_lanes(raw + k * plane, count, part);
    return part;
  }

  // Scores are computed class by class and transposed, because they are stored cell by cell.
  DETCORE_HD void put_score(int64_t c, L score) {
    if (!p.scores) return;
    const int64_t k = c % width;
    scores[k] = score;
    if (k < width - 1 && c < p.classes - 1) return;
    transpose(scores);
    for (int64_t lane = 0; lane < count; ++lane) {
      S* to = static_cast<S*>(p.scores) + (first + lane * p.cells) * p.classes + c - k;
      if (k == width - 1)
        store_lanes(scores[lane], to);
      else
        store_lanes(scores[lane], to, k + 1);
    }
  }

  DETCORE_HD Mask<T> decode_scores() {
    if (p.classes == 0) return geometry.row == geometry.row;
    CellScores<L, CellLanes> score(scores_of<L>(p), *this);
    for (int64_t c = 0; c < p.classes; ++c) put_score(c, score(c));
    return score.wanted;
  }

  DETCORE_HD void put_boxes(const Box<L>& boxes) const {
    S* to = static_cast<S*>(p.boxes) + 4 * first;
    if (p.cells == 1) return store_boxes(boxes, to, count);
    S each[4 * width];
    store_boxes(boxes, each);
    for (int64_t lane = 0; lane < count; ++lane)
      memcpy(to + 4 * p.cells * lane, each + 4 * lane, 4 * sizeof(S));
  }
  DETCORE_HD Box<L> grad_boxes(const void* from) const {
    const S* grad = static_cast<const S*>(from) + 4 * first;
    if (p.cells == 1) return load_boxes(grad, count);
    S each[4 * width] = {};
    for (int64_t lane = 0; lane < count; ++lane)
      memcpy(each + 4 * lane, grad + 4 * p.cells * lane, 4 * sizeof(S));
    return load_boxes(each);
  }
};

// Calls f(CellLanes<S>, S{}, codec) for all cells.
template <class F>
Status each_cell(const DecodeDenseParams& p, const Executor& executor, const F& f) {
  return with_storage(p.dtype, [&](auto storage) {
    return with_codec(p.codec, [&](auto codec) {
      using Cells = CellLanes<decltype(storage)>;
      const int64_t vectors = divide_up(p.height * p.width, Cells::width);
      const int64_t grain = 1 + 4096 / ((p.per_cell + 1) * Cells::width);
      parallel_for(executor, p.batch * p.cells * vectors, grain, [&](int64_t begin, int64_t end) {
        Cells cells(p);
        for (int64_t unit = begin; unit < end; ++unit) {
          const int64_t plane = unit / vectors;
          cells.go_to(plane / p.cells, plane % p.cells, unit % vectors * Cells::width);
          f(cells, storage, codec);
        }
      });
      return Status{};
    });
  });
}

template <class L, class M>
DETCORE_HD Box<L> box_where(M wanted, const Box<L>& b) {
  const L zero(0);
  return {lane_select(wanted, b.x1, zero), lane_select(wanted, b.y1, zero),
          lane_select(wanted, b.x2, zero), lane_select(wanted, b.y2, zero)};
}

}  // namespace

Status decode_dense(const DecodeDenseParams& p, const Executor& executor) {
  return each_cell(p, executor, [&](auto& cells, auto storage, auto codec) {
    constexpr DenseCodec kCodec = decltype(codec)::value;
    using L = Lanes<arithmetic_t<decltype(storage)>>;
    const auto wanted = cells.decode_scores();
    Box<L> boxes{L(0), L(0), L(0), L(0)};
    if (lane_any(wanted))
      boxes = box_where(
          wanted, decode_cell<kCodec>(dense_numbers<kCodec, L>(cells, p.bins), cells.geometry));
    cells.put_boxes(boxes);
  });
}

Status decode_dense_backward(const DecodeDenseBackwardParams& p, const Executor& executor) {
  const DecodeDenseParams& f = p.forward;
  return each_cell(f, executor, [&](auto& cells, auto storage, auto codec) {
    constexpr DenseCodec kCodec = decltype(codec)::value;
    using S = decltype(storage);
    using L = Lanes<arithmetic_t<S>>;
    S* out = static_cast<S*>(p.grad_maps) + (cells.raw - static_cast<const S*>(f.maps));
    const auto put = [&](int64_t k, L gradient) {
      store_lanes(gradient, out + k * cells.plane, cells.count);
    };
    for (int64_t k = 0; k < f.per_cell; ++k) put(k, L(0));
    const auto wanted = cells.decode_scores();
    if (!lane_any(wanted)) return;
    const Box<L> t = dense_numbers<kCodec, L>(cells, f.bins);
    const Box<L> d =
        decode_cell_backward<kCodec>(t, cells.geometry, cells.grad_boxes(p.grad_boxes));
    dense_numbers_backward<kCodec>(cells, f.bins, box_where(wanted, d), [&](int64_t k, L gradient) {
      // if the box is not wanted, the gradient can be 0 times an infinite value
      put(k, lane_select(wanted, gradient, L(0)));
    });
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(decode_dense, DecodeDenseParams)
DETCORE_CPU_ENTRY(decode_dense_backward, DecodeDenseBackwardParams)
