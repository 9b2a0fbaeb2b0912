// The forward kernel is limited by its writes. Each thread measures four columns once, keeps them
// in registers and writes 16 bytes per row; the block measures the rows of the tile once and shares
// them. If rows don't begin at multiples of 16 bytes, the four columns of a thread are kThreads
// apart, so that the threads of a warp still write contiguous memory. The backward pass has one
// kernel for rows (one block per row) and one for columns (one block per 32 columns). Both read the
// gradient along its rows and sum in a fixed order, without atomics.
#include "detcore/box_iou.h"

#include "launch.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 128;
constexpr int kColumnsPerThread = 4;           // one 16-byte store of floats
constexpr int kMostRows = 16, kLeastRows = 4;  // per tile
constexpr int64_t kEnoughTiles = 1024;         // to fill a large device
constexpr int kColumnWarps = 16;               // backward
constexpr int kColumns = kThreads * kColumnsPerThread;

template <IouKind kind, class S>
__device__ MeasuredBox<arithmetic_t<S>> measured(const S* box, BoxFormat format) {
  auto b = load_box(box);
  return measure<kind>(to_xyxy(format, b.x1, b.y1, b.x2, b.y2));
}

// Columns column0 + threadIdx.x * 4 + k (wide) or column0 + threadIdx.x + k * kThreads.
template <IouKind kind, bool wide, class S>
__global__ void forward_kernel(BoxIouParams p, int64_t row_tiles, int64_t column_tiles,
                               int tile_rows) {
  using T = arithmetic_t<S>;
  constexpr int step = wide ? 1 : kThreads, group = 16 / sizeof(T);
  __shared__ MeasuredBox<T> rows[kMostRows];
  const IouEps<T> eps{T(0), T(p.eps)};

  for (int64_t tile = blockIdx.x; tile < p.batch * row_tiles * column_tiles; tile += gridDim.x) {
    const int64_t batch = tile / (row_tiles * column_tiles);
    const int64_t row0 = tile / column_tiles % row_tiles * tile_rows;
    const int64_t column0 =
        tile % column_tiles * kColumns + threadIdx.x * (wide ? kColumnsPerThread : 1);
    const S* boxes1 = static_cast<const S*>(p.boxes1) + 4 * batch * p.n;
    const S* boxes2 = static_cast<const S*>(p.boxes2) + 4 * batch * p.m;
    const int row_count = p.n - row0 < tile_rows ? int(p.n - row0) : tile_rows;

    __syncthreads();  // the last tile's rows have been read
    if (int(threadIdx.x) < row_count)
      rows[threadIdx.x] = measured<kind>(boxes1 + 4 * (row0 + threadIdx.x), p.format);
    MeasuredBox<T> columns[kColumnsPerThread];
    for (int k = 0; k < kColumnsPerThread; ++k) {
      // // past the end we measure the last box again; its result is not written
      const int64_t j = column0 + k * step < p.m ? column0 + k * step : p.m - 1;
      columns[k] = measured<kind>(boxes2 + 4 * j, p.format);
    }
    __syncthreads();
    if (column0 >= p.m) continue;

    T* out = static_cast<T*>(p.out) + (batch * p.n + row0) * p.m + column0;
    for (int r = 0; r < row_count; ++r, out += p.m) {
      T value[kColumnsPerThread];
      for (int k = 0; k < kColumnsPerThread; ++k)
        value[k] = overlap<kind>(rows[r], columns[k], eps);
      if constexpr (wide) {
        for (int k = 0; k < kColumnsPerThread; k += group) {
          Wide<T, group> some;
          for (int i = 0; i < group; ++i) some.v[i] = value[k + i];
          store_wide(out + k, some);
        }
      } else {
        for (int k = 0; k < kColumnsPerThread; ++k)
          if (column0 + k * step < p.m) out[k * step] = value[k];
      }
    }
  }
}

// One block per row; its threads loop over the columns.
template <IouKind kind, class S>
__global__ void rows_backward_kernel(BoxIouBackwardParams p) {
  using T = arithmetic_t<S>;
  __shared__ T partial[4][kThreads];
  const BoxIouParams& f = p.forward;
  const IouEps<T> eps{T(0), T(f.eps)};
  for (int64_t row = blockIdx.x; row < f.batch * f.n; row += gridDim.x) {
    const int64_t batch = row / f.n;
    const T* grad = static_cast<const T*>(p.grad_out) + row * f.m;
    const S* others = static_cast<const S*>(f.boxes2) + 4 * batch * f.m;
    const auto own = measured<kind>(static_cast<const S*>(f.boxes1) + 4 * row, f.format);
    Box<T> sum{T(0), T(0), T(0), T(0)}, ignored = sum;
    for (int64_t j = threadIdx.x; j < f.m; j += kThreads)
      overlap_backward<kind>(own, measured<kind>(others + 4 * j, f.format), eps, grad[j], sum,
                             ignored);
    partial[0][threadIdx.x] = sum.x1, partial[1][threadIdx.x] = sum.y1;
    partial[2][threadIdx.x] = sum.x2, partial[3][threadIdx.x] = sum.y2;
    for (int step = kThreads / 2; step > 0; step /= 2) {
      __syncthreads();
      if (int(threadIdx.x) < step)
        for (int k = 0; k < 4; ++k) partial[k][threadIdx.x] += partial[k][threadIdx.x + step];
    }
    if (threadIdx.x == 0)
      for (int k = 0; k < 4; ++k) static_cast<T*>(p.grad_boxes1)[4 * row + k] = partial[k][0];
    __syncthreads();  // before the next box overwrites the sums
  }
}

// One block per 32 columns, one column per lane, so that a warp reads contiguous parts of the
// gradient's rows.
template <IouKind kind, class S>
__global__ void columns_backward_kernel(BoxIouBackwardParams p, int64_t column_tiles) {
  using T = arithmetic_t<S>;
  __shared__ T partial[kColumnWarps][4][32];
  const BoxIouParams& f = p.forward;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const IouEps<T> eps{T(0), T(f.eps)};
  for (int64_t tile = blockIdx.x; tile < f.batch * column_tiles; tile += gridDim.x) {
    const int64_t batch = tile / column_tiles, j = tile % column_tiles * 32 + lane;
    if (j < f.m) {
      const T* grad = static_cast<const T*>(p.grad_out) + batch * f.n * f.m + j;
      const S* others = static_cast<const S*>(f.boxes1) + 4 * batch * f.n;
      const auto own =
          measured<kind>(static_cast<const S*>(f.boxes2) + 4 * (batch * f.m + j), f.format);
      Box<T> sum{T(0), T(0), T(0), T(0)}, ignored = sum;
      for (int64_t i = warp; i < f.n; i += kColumnWarps)
        overlap_backward<kind>(measured<kind>(others + 4 * i, f.format), own, eps, grad[i * f.m],
                               ignored, sum);
      partial[warp][0][lane] = sum.x1, partial[warp][1][lane] = sum.y1;
      partial[warp][2][lane] = sum.x2, partial[warp][3][lane] = sum.y2;
    }
    __syncthreads();
    if (warp == 0 && j < f.m) {
      Box<T> sum{partial[0][0][lane], partial[0][1][lane], partial[0][2][lane],
                 partial[0][3][lane]};
      for (int w = 1; w < kColumnWarps; ++w) {
        sum.x1 += partial[w][0][lane], sum.y1 += partial[w][1][lane];
        sum.x2 += partial[w][2][lane], sum.y2 += partial[w][3][lane];
      }
      store_box(static_cast<T*>(p.grad_boxes2) + 4 * (batch * f.m + j), sum);
    }
    __syncthreads();  // before the next tile overwrites the sums
  }
}

}  // namespace

Status box_iou_cuda(const BoxIouParams& p, Stream stream) {
  if (p.batch * p.n * p.m == 0) return {};
  const int64_t column_tiles = (p.m + kColumns - 1) / kColumns;
  int tile_rows = kMostRows;
  const auto tiles = [&] { return (p.n + tile_rows - 1) / tile_rows; };
  while (tile_rows > kLeastRows && p.batch * tiles() * column_tiles < kEnoughTiles) tile_rows /= 2;
  // every row then begins at a multiple of 16 bytes
  const bool wide = p.m % kColumnsPerThread == 0 && aligned_to_16(p.out);
  const LaunchShape shape{blocks_for(p.batch * tiles() * column_tiles, 1), kThreads};
  return with_storage(p.dtype, [&](auto storage) {
    return with_kind(p.kind, [&](auto kind) {
      constexpr IouKind k = decltype(kind)::value;
      using S = decltype(storage);
      return wide ? launch(forward_kernel<k, true, S>, shape, stream, p, tiles(), column_tiles,
                           tile_rows)
                  : launch(forward_kernel<k, false, S>, shape, stream, p, tiles(), column_tiles,
                           tile_rows);
    });
  });
}

Status box_iou_backward_cuda(const BoxIouBackwardParams& p, Stream stream) {
  const BoxIouParams& f = p.forward;
  return with_storage(f.dtype, [&](auto storage) {
    return with_kind(f.kind, [&](auto kind) {
      constexpr IouKind k = decltype(kind)::value;
      using S = decltype(storage);
      Status status;
      if (p.grad_boxes1)
        status =
            launch(rows_backward_kernel<k, S>, {blocks_for(f.batch * f.n, 1), kThreads}, stream, p);
      const int64_t column_tiles = (f.m + 31) / 32;
      if (status && p.grad_boxes2)
        status = launch(columns_backward_kernel<k, S>,
                        {blocks_for(f.batch * column_tiles, 1), 32 * kColumnWarps}, stream, p,
                        column_tiles);
      return status;
    });
  });
}

}  // namespace detcore
