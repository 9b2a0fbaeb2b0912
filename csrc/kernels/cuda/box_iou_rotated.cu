// box_iou_rotated and box3d_iou. The boxes are measured once, by a kernel of its own: sines and
// cosines in double cost more than a comparison. The forward kernel then has one column per thread
// in registers and the rows of its tile in shared memory. A warp clips only if the circles of some
// of its pairs meet. The backward pass has one kernel for rows and one for columns, as box_iou's;
// both sum in a fixed order.
#include "detcore/box_iou_rotated.h"

#include "launch.cuh"
#include "rotated_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 128;
constexpr int kMostRows = 16, kLeastRows = 4;  // per tile
constexpr int64_t kEnoughTiles = 1024;         // to fill a large device
constexpr int kColumnWarps = 8;                // backward

// The measured boxes of a geometry, in device memory.
template <class G, class T>
using Measured = typename G::template Measured<T, double>;
template <class G, class T>
using Gradient = typename G::template Grad<T>;

template <class G, class T>
struct Workspace {
  Measured<G, T>*rows, *columns;
  __device__ explicit Workspace(const BoxIouRotatedParams& p)
      : rows(static_cast<Measured<G, T>*>(p.workspace)), columns(rows + p.batch * p.n) {}
};

template <class S, class G>
__global__ void measure_kernel(BoxIouRotatedParams p, int64_t count1, int64_t count2) {
  using T = arithmetic_t<S>;
  const Workspace<G, T> w(p);
  for (int64_t i = global_thread(); i < count1 + count2; i += all_threads()) {
    const bool first = i < count1;
    const S* boxes = static_cast<const S*>(first ? p.boxes1 : p.boxes2);
    w.rows[i] = load_measured(G{}, p.kind, boxes, first ? i : i - count1);
  }
}

template <class T, class G>
__global__ void forward_kernel(BoxIouRotatedParams p, int64_t row_tiles, int64_t column_tiles,
                               int tile_rows) {
  __shared__ Measured<G, T> rows[kMostRows];
  const Workspace<G, T> w(p);
  for (int64_t tile = blockIdx.x; tile < p.batch * row_tiles * column_tiles; tile += gridDim.x) {
    const int64_t batch = tile / (row_tiles * column_tiles);
    const int64_t row0 = tile / column_tiles % row_tiles * tile_rows;
    const int64_t j = tile % column_tiles * kThreads + threadIdx.x;
    const int row_count = p.n - row0 < tile_rows ? int(p.n - row0) : tile_rows;

    __syncthreads();  // the last tile's rows have been read
    if (int(threadIdx.x) < row_count) rows[threadIdx.x] = w.rows[batch * p.n + row0 + threadIdx.x];
    // past the end the last box is compared again; its result is not written
    const Measured<G, T> column = w.columns[batch * p.m + (j < p.m ? j : p.m - 1)];
    __syncthreads();

    T* out = static_cast<T*>(p.out) + (batch * p.n + row0) * p.m + j;
    for (int r = 0; r < row_count; ++r, out += p.m) {
      T value = T(0);
      if (!are_apart(rows[r], column)) value = rotated_overlap(rows[r], column);
      if (j < p.m) *out = value;
    }
  }
}

template <class Grad>
__device__ void add(Grad& sum, const Grad& part) {
  each_number(sum, part, [](auto& to, auto value) { to += value; });
}

template <class Box, class T, class Grad>
__device__ void add_gradient(const Box& own, const Box& other, T grad, Grad& sum) {
  if (!are_apart(own, other)) rotated_overlap_backward(own, other, grad, sum);
}

// One block per row; its threads loop over the columns.
template <class T, class G>
__global__ void rows_backward_kernel(BoxIouRotatedBackwardParams p) {
  __shared__ Gradient<G, T> partial[kThreads];
  const BoxIouRotatedParams& f = p.forward;
  const Workspace<G, T> w(f);
  for (int64_t row = blockIdx.x; row < f.batch * f.n; row += gridDim.x) {
    const T* grad = static_cast<const T*>(p.grad_out) + row * f.m;
    const Measured<G, T>* others = w.columns + row / f.n * f.m;
    const Measured<G, T> own = w.rows[row];
    Gradient<G, T> sum{};
    for (int64_t j = threadIdx.x; j < f.m; j += kThreads)
      add_gradient(own, others[j], grad[j], sum);
    partial[threadIdx.x] = sum;
    for (int step = kThreads / 2; step > 0; step /= 2) {
      __syncthreads();
      if (int(threadIdx.x) < step) add(partial[threadIdx.x], partial[threadIdx.x + step]);
    }
    if (threadIdx.x == 0)
      store_gradient(f.kind, partial[0], static_cast<T*>(p.grad_boxes1) + numbers_of(f.kind) * row);
    __syncthreads();  // before the next box overwrites the sums
  }
}

// One block per 32 columns, one column per lane, so that a warp reads contiguous parts of the
// gradient's rows.
template <class T, class G>
__global__ void columns_backward_kernel(BoxIouRotatedBackwardParams p, int64_t column_tiles) {
  __shared__ Gradient<G, T> partial[kColumnWarps][32];
  const BoxIouRotatedParams& f = p.forward;
  const Workspace<G, T> w(f);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t tile = blockIdx.x; tile < f.batch * column_tiles; tile += gridDim.x) {
    const int64_t batch = tile / column_tiles, j = tile % column_tiles * 32 + lane;
    const int64_t within = j < f.m ? j : f.m - 1;  // lanes past the end repeat the last column
    const T* grad = static_cast<const T*>(p.grad_out) + batch * f.n * f.m + within;
    const Measured<G, T>* others = w.rows + batch * f.n;
    const Measured<G, T> own = w.columns[batch * f.m + within];
    Gradient<G, T> sum{};
    for (int64_t i = warp; i < f.n; i += kColumnWarps)
      add_gradient(own, others[i], grad[i * f.m], sum);
    partial[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && j < f.m) {
      Gradient<G, T> all = partial[0][lane];
      for (int k = 1; k < kColumnWarps; ++k) add(all, partial[k][lane]);
      store_gradient(f.kind, all,
                     static_cast<T*>(p.grad_boxes2) + numbers_of(f.kind) * (batch * f.m + j));
    }
    __syncthreads();  // before the next tile overwrites the sums
  }
}

template <class S, class G>
Status measure(const BoxIouRotatedParams& p, Stream stream) {
  const int64_t count1 = p.batch * p.n, count2 = p.batch * p.m;
  return launch(measure_kernel<S, G>, {blocks_for(count1 + count2, kThreads), kThreads}, stream, p,
                count1, count2);
}

template <class S, class G>
Status forward(const BoxIouRotatedParams& p, Stream stream) {
  const int64_t column_tiles = (p.m + kThreads - 1) / kThreads;
  int tile_rows = kMostRows;
  const auto tiles = [&] { return (p.n + tile_rows - 1) / tile_rows; };
  while (tile_rows > kLeastRows && p.batch * tiles() * column_tiles < kEnoughTiles) tile_rows /= 2;
  Status status = measure<S, G>(p, stream);
  if (status)
    status = launch(forward_kernel<arithmetic_t<S>, G>,
                    {blocks_for(p.batch * tiles() * column_tiles, 1), kThreads}, stream, p, tiles(),
                    column_tiles, tile_rows);
  return status;
}

template <class S, class G>
Status backward(const BoxIouRotatedBackwardParams& p, Stream stream) {
  using T = arithmetic_t<S>;
  const BoxIouRotatedParams& f = p.forward;
  Status status = measure<S, G>(f, stream);
  if (status)
    status =
        launch(rows_backward_kernel<T, G>, {blocks_for(f.batch * f.n, 1), kThreads}, stream, p);
  const int64_t column_tiles = (f.m + 31) / 32;
  if (status)
    status =
        launch(columns_backward_kernel<T, G>,
               {blocks_for(f.batch * column_tiles, 1), 32 * kColumnWarps}, stream, p, column_tiles);
  return status;
}

}  // namespace

size_t box_iou_rotated_workspace_cuda(const BoxIouRotatedParams& p) {
  const bool wide = p.dtype == DType::f64, in_space = p.kind == RotatedKind::in_space;
  const size_t box =
      in_space ? (wide ? sizeof(Measured<InSpace, double>) : sizeof(Measured<InSpace, float>))
               : (wide ? sizeof(Measured<InPlane, double>) : sizeof(Measured<InPlane, float>));
  return p.batch * (p.n + p.m) * box;
}

Status box_iou_rotated_cuda(const BoxIouRotatedParams& p, Stream stream) {
  if (p.batch * p.n * p.m == 0) return {};
  return with_geometry(p.kind, [&](auto geometry) {
    return with_storage(p.dtype, [&](auto storage) {
      return forward<decltype(storage), decltype(geometry)>(p, stream);
    });
  });
}

Status box_iou_rotated_backward_cuda(const BoxIouRotatedBackwardParams& p, Stream stream) {
  return with_geometry(p.forward.kind, [&](auto geometry) {
    return with_storage(p.forward.dtype, [&](auto storage) {
      return backward<decltype(storage), decltype(geometry)>(p, stream);
    });
  });
}

}  // namespace detcore
