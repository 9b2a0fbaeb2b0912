// The boxes are measured once, by a kernel of its own: sines and cosines in double cost more than a
// comparison. The forward kernel then has one column per thread in registers and the rows of its
// tile in shared memory. A warp clips only if the circles of some of its pairs meet. The backward
// pass has one kernel for rows and one for columns, as box_iou's; both sum in a fixed order.
#include "detcore/box_iou_rotated.h"

#include "dispatch.cuh"
#include "launch.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 128;
constexpr int kMostRows = 16, kLeastRows = 4;  // per tile
constexpr int64_t kEnoughTiles = 1024;         // to fill a large device
constexpr int kColumnWarps = 8;                // backward
constexpr int kNumbers = 5;                    // per box

template <class T>
using Measured = RotatedBox<T, double>;

template <class T>
struct Workspace {
  Measured<T>*rows, *columns;
  __device__ explicit Workspace(const BoxIouRotatedParams& p)
      : rows(static_cast<Measured<T>*>(p.workspace)), columns(rows + p.batch * p.n) {}
};

template <class S>
__global__ void measure_kernel(BoxIouRotatedParams p, int64_t count1, int64_t count2) {
  using T = arithmetic_t<S>;
  const Workspace<T> w(p);
  for (int64_t i = global_thread(); i < count1 + count2; i += all_threads()) {
    const S* b = i < count1 ? static_cast<const S*>(p.boxes1) + kNumbers * i
                            : static_cast<const S*>(p.boxes2) + kNumbers * (i - count1);
    w.rows[i] = measure_rotated<T>(widen(b[0]), widen(b[1]), widen(b[2]), widen(b[3]), widen(b[4]));
  }
}

template <class T>
__global__ void forward_kernel(BoxIouRotatedParams p, int64_t row_tiles, int64_t column_tiles,
                               int tile_rows) {
  __shared__ Measured<T> rows[kMostRows];
  const Workspace<T> w(p);
  for (int64_t tile = blockIdx.x; tile < p.batch * row_tiles * column_tiles; tile += gridDim.x) {
    const int64_t batch = tile / (row_tiles * column_tiles);
    const int64_t row0 = tile / column_tiles % row_tiles * tile_rows;
    const int64_t j = tile % column_tiles * kThreads + threadIdx.x;
    const int row_count = p.n - row0 < tile_rows ? int(p.n - row0) : tile_rows;

    __syncthreads();  // the last tile's rows have been read
    if (int(threadIdx.x) < row_count) rows[threadIdx.x] = w.rows[batch * p.n + row0 + threadIdx.x];
    // past the end the last box is compared again; its result is not written
    const Measured<T> column = w.columns[batch * p.m + (j < p.m ? j : p.m - 1)];
    __syncthreads();

    T* out = static_cast<T*>(p.out) + (batch * p.n + row0) * p.m + j;
    for (int r = 0; r < row_count; ++r, out += p.m) {
      T value = T(0);
      if (!are_apart(rows[r], column)) value = rotated_overlap(rows[r], column);
      if (j < p.m) *out = value;
    }
  }
}

template <class T>
__device__ void add(RotatedGrad<T>& sum, const RotatedGrad<T>& part) {
  sum.x += part.x, sum.y += part.y, sum.w += part.w, sum.h += part.h, sum.angle += part.angle;
}

template <class T>
__device__ void store_gradient(T* to, const RotatedGrad<T>& g) {
  to[0] = g.x, to[1] = g.y, to[2] = g.w, to[3] = g.h, to[4] = g.angle;
}

template <class T>
__device__ void add_gradient(const Measured<T>& own, const Measured<T>& other, T grad,
                             RotatedGrad<T>& sum) {
  if (!are_apart(own, other)) rotated_overlap_backward(own, other, grad, sum);
}

// One block per row; its threads loop over the columns.
template <class T>
__global__ void rows_backward_kernel(BoxIouRotatedBackwardParams p) {
  __shared__ RotatedGrad<T> partial[kThreads];
  const BoxIouRotatedParams& f = p.forward;
  const Workspace<T> w(f);
  for (int64_t row = blockIdx.x; row < f.batch * f.n; row += gridDim.x) {
    const T* grad = static_cast<const T*>(p.grad_out) + row * f.m;
    const Measured<T>* others = w.columns + row / f.n * f.m;
    const Measured<T> own = w.rows[row];
    RotatedGrad<T> sum{};
    for (int64_t j = threadIdx.x; j < f.m; j += kThreads)
      add_gradient(own, others[j], grad[j], sum);
    partial[threadIdx.x] = sum;
    for (int step = kThreads / 2; step > 0; step /= 2) {
      __syncthreads();
      if (int(threadIdx.x) < step) add(partial[threadIdx.x], partial[threadIdx.x + step]);
    }
    if (threadIdx.x == 0)
      store_gradient(static_cast<T*>(p.grad_boxes1) + kNumbers * row, partial[0]);
    __syncthreads();  // before the next box overwrites the sums
  }
}

// One block per 32 columns, one column per lane, so that a warp reads contiguous parts of the
// gradient's rows.
template <class T>
__global__ void columns_backward_kernel(BoxIouRotatedBackwardParams p, int64_t column_tiles) {
  __shared__ RotatedGrad<T> partial[kColumnWarps][32];
  const BoxIouRotatedParams& f = p.forward;
  const Workspace<T> w(f);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t tile = blockIdx.x; tile < f.batch * column_tiles; tile += gridDim.x) {
    const int64_t batch = tile / column_tiles, j = tile % column_tiles * 32 + lane;
    const int64_t within = j < f.m ? j : f.m - 1;  // lanes past the end repeat the last column
    const T* grad = static_cast<const T*>(p.grad_out) + batch * f.n * f.m + within;
    const Measured<T>* others = w.rows + batch * f.n;
    const Measured<T> own = w.columns[batch * f.m + within];
    RotatedGrad<T> sum{};
    for (int64_t i = warp; i < f.n; i += kColumnWarps)
      add_gradient(own, others[i], grad[i * f.m], sum);
    partial[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && j < f.m) {
      RotatedGrad<T> all = partial[0][lane];
      for (int k = 1; k < kColumnWarps; ++k) add(all, partial[k][lane]);
      store_gradient(static_cast<T*>(p.grad_boxes2) + kNumbers * (batch * f.m + j), all);
    }
    __syncthreads();  // before the next tile overwrites the sums
  }
}

template <class S>
Status measure(const BoxIouRotatedParams& p, Stream stream) {
  const int64_t count1 = p.batch * p.n, count2 = p.batch * p.m;
  return launch(measure_kernel<S>, {blocks_for(count1 + count2, kThreads), kThreads}, stream, p,
                count1, count2);
}

}  // namespace

size_t box_iou_rotated_workspace_cuda(const BoxIouRotatedParams& p) {
  const size_t box = p.dtype == DType::f64 ? sizeof(Measured<double>) : sizeof(Measured<float>);
  return p.batch * (p.n + p.m) * box;
}

Status box_iou_rotated_cuda(const BoxIouRotatedParams& p, Stream stream) {
  if (p.batch * p.n * p.m == 0) return {};
  const int64_t column_tiles = (p.m + kThreads - 1) / kThreads;
  int tile_rows = kMostRows;
  const auto tiles = [&] { return (p.n + tile_rows - 1) / tile_rows; };
  while (tile_rows > kLeastRows && p.batch * tiles() * column_tiles < kEnoughTiles) tile_rows /= 2;
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    Status status = measure<S>(p, stream);
    if (status)
      status = launch(forward_kernel<arithmetic_t<S>>,
                      {blocks_for(p.batch * tiles() * column_tiles, 1), kThreads}, stream, p,
                      tiles(), column_tiles, tile_rows);
    return status;
  });
}

Status box_iou_rotated_backward_cuda(const BoxIouRotatedBackwardParams& p, Stream stream) {
  const BoxIouRotatedParams& f = p.forward;
  return with_storage(f.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    Status status = measure<S>(f, stream);
    if (status)
      status = launch(rows_backward_kernel<T>, {blocks_for(f.batch * f.n, 1), kThreads}, stream, p);
    const int64_t column_tiles = (f.m + 31) / 32;
    if (status)
      status = launch(columns_backward_kernel<T>,
                      {blocks_for(f.batch * column_tiles, 1), 32 * kColumnWarps}, stream, p,
                      column_tiles);
    return status;
  });
}

}  // namespace detcore
