// A block decodes all anchors, or many anchors, of some pixels. Adjacent threads read adjacent
// pixels of the map's planes, but the results are stored anchor by anchor and class by class. So
// the block transposes in shared memory, and both accesses are contiguous.
#include "detcore/decode_dense.h"

#include "launch.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;    // limit on the cells per block
constexpr int kLeastPixels = 8;  // 32 bytes of floats
constexpr int kScoreBytes = 64;  // per cell, in shared memory at once

// How the work is divided into blocks: by images, pixels and anchors; anchors vary fastest.
struct Tiling {
  int pixels, anchors;  // limits per block; pixels is a power of two
  int64_t pixel_tiles, anchor_tiles;

  explicit Tiling(const DecodeDenseParams& p) : pixels(kThreads) {
    while (pixels > kLeastPixels && pixels * p.cells > kThreads) pixels /= 2;
    anchors = p.cells < kThreads / pixels ? int(p.cells) : kThreads / pixels;
    pixel_tiles = (p.height * p.width + pixels - 1) / pixels;
    anchor_tiles = (p.cells + anchors - 1) / anchors;
  }
  int64_t tiles(const DecodeDenseParams& p) const { return p.batch * pixel_tiles * anchor_tiles; }
  LaunchShape shape(const DecodeDenseParams& p) const {
    return {blocks_for(tiles(p), 1), (pixels * anchors + 31) / 32 * 32};
  }
};

// The cells of one block. In the results they are sorted by pixel, then by anchor.
struct Tile {
  int64_t batch, pixel0, anchor0;
  int pixels, anchors;  // inside the map

  __device__ Tile(const DecodeDenseParams& p, const Tiling& tiling, int64_t i) {
    anchor0 = i % tiling.anchor_tiles * tiling.anchors;
    pixel0 = i / tiling.anchor_tiles % tiling.pixel_tiles * tiling.pixels;
    batch = i / tiling.anchor_tiles / tiling.pixel_tiles;
    const int64_t pixels_left = p.height * p.width - pixel0, anchors_left = p.cells - anchor0;
    pixels = pixels_left < tiling.pixels ? int(pixels_left) : tiling.pixels;
    anchors = anchors_left < tiling.anchors ? int(anchors_left) : tiling.anchors;
  }
  // The index of cell k of the tile in the results of the whole batch.
  __device__ int64_t place(const DecodeDenseParams& p, int k) const {
    const int64_t first = (batch * p.height * p.width + pixel0) * p.cells + anchor0;
    if (anchors == p.cells) return first + k;
    return first + k / anchors * p.cells + k % anchors;
  }
};

// The cell of a thread. Its pixel is the thread index modulo the pixels of the tile.
template <class S>
struct Cell {
  using T = arithmetic_t<S>;
  const S* raw;
  int64_t plane;
  int index;    // in the tile
  bool exists;  // if false, the thread repeats another cell to reach the barriers
  DenseCell<T> geometry;

  __device__ Cell(const DecodeDenseParams& p, const Tiling& tiling, const Tile& tile) {
    int pixel = int(threadIdx.x) & (tiling.pixels - 1), anchor = int(threadIdx.x) / tiling.pixels;
    exists = pixel < tile.pixels && anchor < tile.anchors;
    if (!exists) pixel = anchor = 0;
    index = pixel * tile.anchors + anchor;
    plane = p.height * p.width;
    const int64_t at = tile.pixel0 + pixel, a = tile.anchor0 + anchor;
    raw = static_cast<const S*>(p.maps) + (tile.batch * p.cells + a) * p.per_cell * plane + at;
    geometry.row = T(at / p.width), geometry.column = T(at % p.width);
    geometry.stride_x = T(p.stride_x), geometry.stride_y = T(p.stride_y);
    geometry.weights = {T(p.weights[0]), T(p.weights[1]), T(p.weights[2]), T(p.weights[3])};
    geometry.clip = T(p.clip), geometry.scale_xy = T(p.scale_xy);
    const int values = p.codec == DenseCodec::delta ? 4 : 2;
    for (int v = 0; v < 4; ++v)
      geometry.anchor[v] =
          p.anchors && v < values ? T(static_cast<const double*>(p.anchors)[a * values + v]) : T(0);
  }
  DETCORE_HD T value(int64_t k) const { return widen(raw[k * plane]); }
};

// Computes the scores of the tile's cells for some classes at a time, one thread per cell, and
// writes them class by class.
template <class S>
__device__ bool write_scores(const DecodeDenseParams& p, const Tile& tile, const Cell<S>& cell) {
  using T = arithmetic_t<S>;
  constexpr int at_once = kScoreBytes / int(sizeof(T));
  constexpr int row = at_once + 1;  // one extra, so that cells begin in different banks
  __shared__ T scores[kThreads * row];
  CellScores<T, Cell<S>> score(scores_of<T>(p), cell);
  const int cells = tile.pixels * tile.anchors;
  for (int64_t c0 = 0; c0 < p.classes; c0 += at_once) {
    const int classes = p.classes - c0 < at_once ? int(p.classes - c0) : at_once;
    for (int c = 0; c < classes; ++c) {
      const T value = score(c0 + c);
      if (cell.exists) scores[cell.index * row + c] = value;
    }
    __syncthreads();
    S* out = static_cast<S*>(p.scores) + c0;
    const int cell_step = int(blockDim.x) / classes, class_step = int(blockDim.x) % classes;
    int k = int(threadIdx.x) / classes, c = int(threadIdx.x) % classes;
    for (; k < cells; k += cell_step, c += class_step) {
      if (c >= classes) c -= classes, ++k;
      if (k < cells) narrow(scores[k * row + c], out[tile.place(p, k) * p.classes + c]);
    }
    __syncthreads();  // before the next classes overwrite these
  }
  return score.wanted;
}

template <DenseCodec codec, class S>
__global__ void forward_kernel(DecodeDenseParams p, Tiling tiling, int64_t tiles) {
  using T = arithmetic_t<S>;
  __shared__ Box<T> boxes[kThreads];
  for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
    const Tile tile(p, tiling, i);
    const Cell<S> cell(p, tiling, tile);
    const bool wanted = p.scores == nullptr || write_scores(p, tile, cell);
    Box<T> box{T(0), T(0), T(0), T(0)};
    if (wanted) box = decode_cell<codec>(dense_numbers<codec, T>(cell, p.bins), cell.geometry);
    if (cell.exists) boxes[cell.index] = box;
    __syncthreads();
    if (int(threadIdx.x) < tile.pixels * tile.anchors)
      store_box(static_cast<S*>(p.boxes) + 4 * tile.place(p, int(threadIdx.x)), boxes[threadIdx.x]);
    __syncthreads();  // before the next tile overwrites these
  }
}

template <DenseCodec codec, class S>
__global__ void backward_kernel(DecodeDenseBackwardParams p, Tiling tiling, int64_t tiles) {
  using T = arithmetic_t<S>;
  __shared__ Box<T> grads[kThreads];
  const DecodeDenseParams& f = p.forward;
  for (int64_t i = blockIdx.x; i < tiles; i += gridDim.x) {
    const Tile tile(f, tiling, i);
    const Cell<S> cell(f, tiling, tile);
    if (int(threadIdx.x) < tile.pixels * tile.anchors)
      grads[threadIdx.x] =
          load_box(static_cast<const S*>(p.grad_boxes) + 4 * tile.place(f, int(threadIdx.x)));
    __syncthreads();
    const Box<T> g = grads[cell.index];
    __syncthreads();  // before the next tile overwrites these
    if (!cell.exists) continue;
    CellScores<T, Cell<S>> score(scores_of<T>(f), cell);
    for (int64_t c = 0; c < f.classes && !score.wanted; ++c) score(c);
    const bool wanted = f.classes == 0 || score.wanted;
    S* out = static_cast<S*>(p.grad_maps) + (cell.raw - static_cast<const S*>(f.maps));
    for (int64_t k = wanted ? 4 * f.bins : 0; k < f.per_cell; ++k)
      narrow(T(0), out[k * cell.plane]);
    if (!wanted) continue;
    const Box<T> t = dense_numbers<codec, T>(cell, f.bins);
    dense_numbers_backward<codec>(
        cell, f.bins, decode_cell_backward<codec>(t, cell.geometry, g),
        [&](int64_t k, T gradient) { narrow(gradient, out[k * cell.plane]); });
  }
}

}  // namespace

Status decode_dense_cuda(const DecodeDenseParams& p, Stream stream) {
  const Tiling tiling(p);
  return with_storage(p.dtype, [&](auto storage) {
    return with_codec(p.codec, [&](auto codec) {
      return launch(forward_kernel<decltype(codec)::value, decltype(storage)>, tiling.shape(p),
                    stream, p, tiling, tiling.tiles(p));
    });
  });
}

Status decode_dense_backward_cuda(const DecodeDenseBackwardParams& p, Stream stream) {
  const Tiling tiling(p.forward);
  return with_storage(p.forward.dtype, [&](auto storage) {
    return with_codec(p.forward.codec, [&](auto codec) {
      return launch(backward_kernel<decltype(codec)::value, decltype(storage)>,
                    tiling.shape(p.forward), stream, p, tiling, tiling.tiles(p.forward));
    });
  });
}

}  // namespace detcore
