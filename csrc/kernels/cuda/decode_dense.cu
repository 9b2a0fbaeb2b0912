// A thread a cell, neighbours along the width, so that every plane is read coalesced.
#include "detcore/decode_dense.h"

#include "launch.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;

template <class S>
struct CellView {
  using T = arithmetic_t<S>;
  const S* raw;
  int64_t plane, out;
  S* scores;  // of this cell, or null
  DenseCell<T> geometry;

  __device__ CellView(const DecodeDenseParams& p, int64_t i) {
    // i runs over batch, anchor, row, column: as the planes lie
    plane = p.height * p.width;
    const int64_t pixel = i % plane, anchor = i / plane % p.cells, batch = i / (plane * p.cells);
    raw = static_cast<const S*>(p.maps) + (batch * p.cells + anchor) * p.per_cell * plane + pixel;
    out = (batch * plane + pixel) * p.cells + anchor;
    scores = p.scores ? static_cast<S*>(p.scores) + out * p.classes : nullptr;
    geometry.row = T(pixel / p.width), geometry.column = T(pixel % p.width);
    geometry.stride_x = T(p.stride_x), geometry.stride_y = T(p.stride_y);
    geometry.weights = {T(p.weights[0]), T(p.weights[1]), T(p.weights[2]), T(p.weights[3])};
    geometry.clip = T(p.clip), geometry.scale_xy = T(p.scale_xy);
    const int values = p.codec == DenseCodec::delta ? 4 : 2;
    for (int v = 0; v < 4; ++v)
      geometry.anchor[v] = p.anchors && v < values
                               ? T(static_cast<const double*>(p.anchors)[anchor * values + v])
                               : T(0);
  }
  DETCORE_HD T value(int64_t k) const { return widen(raw[k * plane]); }
  DETCORE_HD void put_score(int64_t c, T score) const {
    if (scores) narrow(score, scores[c]);
  }
};

template <DenseCodec codec, class S>
__global__ void forward_kernel(DecodeDenseParams p) {
  using T = arithmetic_t<S>;
  const int64_t count = p.batch * p.cells * p.height * p.width;
  for (int64_t i = global_thread(); i < count; i += all_threads()) {
    const CellView<S> cell(p, i);
    const bool wanted = p.classes == 0 || decode_scores(scores_of<T>(p), cell);
    Box<T> box{T(0), T(0), T(0), T(0)};
    if (wanted) box = decode_cell<codec>(dense_numbers<codec, T>(cell, p.bins), cell.geometry);
    store_box(static_cast<S*>(p.boxes) + 4 * cell.out, box);
  }
}

template <DenseCodec codec, class S>
__global__ void backward_kernel(DecodeDenseBackwardParams p) {
  using T = arithmetic_t<S>;
  const DecodeDenseParams& f = p.forward;
  const int64_t count = f.batch * f.cells * f.height * f.width;
  for (int64_t i = global_thread(); i < count; i += all_threads()) {
    const CellView<S> cell(f, i);
    S* out = static_cast<S*>(p.grad_maps) + (cell.raw - static_cast<const S*>(f.maps));
    for (int64_t k = 0; k < f.per_cell; ++k) narrow(T(0), out[k * cell.plane]);
    if (f.classes > 0 && !decode_scores(scores_of<T>(f), cell)) continue;
    const auto g = load_box(static_cast<const S*>(p.grad_boxes) + 4 * cell.out);
    const Box<T> t = dense_numbers<codec, T>(cell, f.bins);
    dense_numbers_backward<codec>(
        cell, f.bins, decode_cell_backward<codec>(t, cell.geometry, g),
        [&](int64_t k, T gradient) { narrow(gradient, out[k * cell.plane]); });
  }
}

LaunchShape shape_for(const DecodeDenseParams& p) {
  return {blocks_for(p.batch * p.cells * p.height * p.width, kThreads), kThreads};
}

}  // namespace

Status decode_dense_cuda(const DecodeDenseParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    return with_codec(p.codec, [&](auto codec) {
      return launch(forward_kernel<decltype(codec)::value, decltype(storage)>, shape_for(p), stream,
                    p);
    });
  });
}

Status decode_dense_backward_cuda(const DecodeDenseBackwardParams& p, Stream stream) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    return with_codec(p.forward.codec, [&](auto codec) {
      return launch(backward_kernel<decltype(codec)::value, decltype(storage)>,
                    shape_for(p.forward), stream, p);
    });
  });
}

}  // namespace detcore
