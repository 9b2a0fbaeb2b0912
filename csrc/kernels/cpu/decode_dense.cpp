#include "detcore/decode_dense.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// One cell of the map: where its planes begin, and where its results go.
template <class S>
struct CellView {
  using T = arithmetic_t<S>;
  const S* raw;   // first plane at this cell; the next is `plane` further
  int64_t plane;  // height * width
  int64_t out;    // index of the cell in boxes and scores
  S* scores;      // of this cell, or null
  DenseCell<T> geometry;

  DETCORE_HD T value(int64_t k) const { return widen(raw[k * plane]); }
  DETCORE_HD void put_score(int64_t c, T score) const {
    if (scores) narrow(score, scores[c]);
  }
};

// f(CellView) for every cell; rows of one anchor's planes go to one thread.
template <class S, class F>
void each_cell(const DecodeDenseParams& p, const Executor& executor, const F& f) {
  using T = arithmetic_t<S>;
  const int64_t rows = p.batch * p.cells * p.height;
  const int64_t grain = 1 + 4096 / (p.width * (p.per_cell + 1) + 1);
  const int64_t values = p.codec == DenseCodec::delta ? 4 : 2;
  parallel_for(executor, rows, grain, [&](int64_t begin, int64_t end) {
    CellView<S> cell;
    cell.plane = p.height * p.width;
    cell.geometry.stride_x = T(p.stride_x), cell.geometry.stride_y = T(p.stride_y);
    cell.geometry.weights = {T(p.weights[0]), T(p.weights[1]), T(p.weights[2]), T(p.weights[3])};
    cell.geometry.clip = T(p.clip), cell.geometry.scale_xy = T(p.scale_xy);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t row = unit % p.height, anchor = unit / p.height % p.cells;
      const int64_t batch = unit / (p.height * p.cells);
      cell.geometry.row = T(row);
      for (int64_t v = 0; p.anchors && v < values; ++v)
        cell.geometry.anchor[v] = T(static_cast<const double*>(p.anchors)[anchor * values + v]);
      const int64_t first_plane = (batch * p.cells + anchor) * p.per_cell;
      for (int64_t column = 0; column < p.width; ++column) {
        cell.geometry.column = T(column);
        cell.raw =
            static_cast<const S*>(p.maps) + first_plane * cell.plane + row * p.width + column;
        cell.out = (batch * cell.plane + row * p.width + column) * p.cells + anchor;
        cell.scores = p.scores ? static_cast<S*>(p.scores) + cell.out * p.classes : nullptr;
        f(cell);
      }
    }
  });
}

template <class F>
Status with_storage_and_codec(const DecodeDenseParams& p, F&& f) {
  return with_storage(p.dtype, [&](auto storage) {
    return with_codec(p.codec, [&](auto codec) {
      f(storage, codec);
      return Status{};
    });
  });
}

}  // namespace

Status decode_dense(const DecodeDenseParams& p, const Executor& executor) {
  return with_storage_and_codec(p, [&](auto storage, auto codec) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    each_cell<S>(p, executor, [&](const CellView<S>& cell) {
      const bool wanted = p.classes == 0 || decode_scores(scores_of<T>(p), cell);
      Box<T> box{T(0), T(0), T(0), T(0)};
      constexpr DenseCodec kCodec = decltype(codec)::value;
      if (wanted) box = decode_cell<kCodec>(dense_numbers<kCodec, T>(cell, p.bins), cell.geometry);
      store_box(static_cast<S*>(p.boxes) + 4 * cell.out, box);
    });
  });
}

Status decode_dense_backward(const DecodeDenseBackwardParams& p, const Executor& executor) {
  const DecodeDenseParams& f = p.forward;
  return with_storage_and_codec(f, [&](auto storage, auto codec) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    each_cell<S>(f, executor, [&](const CellView<S>& cell) {
      constexpr DenseCodec kCodec = decltype(codec)::value;
      S* out = static_cast<S*>(p.grad_maps) + (cell.raw - static_cast<const S*>(f.maps));
      for (int64_t k = 0; k < f.per_cell; ++k) narrow(T(0), out[k * cell.plane]);
      if (f.classes > 0 && !decode_scores(scores_of<T>(f), cell)) return;
      const auto g = load_box(static_cast<const S*>(p.grad_boxes) + 4 * cell.out);
      const Box<T> t = dense_numbers<kCodec, T>(cell, f.bins);
      dense_numbers_backward<kCodec>(
          cell, f.bins, decode_cell_backward<kCodec>(t, cell.geometry, g),
          [&](int64_t k, T gradient) { narrow(gradient, out[k * cell.plane]); });
    });
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(decode_dense, DecodeDenseParams)
DETCORE_CPU_ENTRY(decode_dense_backward, DecodeDenseBackwardParams)
