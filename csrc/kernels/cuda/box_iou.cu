// Forward is bound by its writes: each thread measures four columns once, keeps them in registers
// and writes 16 bytes a row; the rows of the tile are measured once and shared by the block.
// Backward gives a block to each box, which sums over the others by a fixed tree: no atomics.
#include "detcore/box_iou.h"

#include "launch.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 128;
constexpr int kColumnsPerThread = 4;  // one 16-byte store of floats
constexpr int kRows = 16;
constexpr int kColumns = kThreads * kColumnsPerThread;

template <IouKind kind, class S>
__device__ MeasuredBox<arithmetic_t<S>> measured(const S* box, BoxFormat format) {
  auto b = load_box(box);
  return measure<kind>(to_xyxy(format, b.x1, b.y1, b.x2, b.y2));
}

template <class T>
struct alignas(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)) Four {
  T v[4];
};

template <IouKind kind, class S>
__global__ void forward_kernel(BoxIouParams p, int64_t row_tiles, int64_t column_tiles,
                               bool aligned_rows) {
  using T = arithmetic_t<S>;
  __shared__ MeasuredBox<T> rows[kRows];
  const IouEps<T> eps{T(0), T(p.eps)};

  for (int64_t tile = blockIdx.x; tile < p.batch * row_tiles * column_tiles; tile += gridDim.x) {
    const int64_t batch = tile / (row_tiles * column_tiles);
    const int64_t row0 = tile / column_tiles % row_tiles * kRows;
    const int64_t column0 = tile % column_tiles * kColumns + threadIdx.x * kColumnsPerThread;
    const S* boxes1 = static_cast<const S*>(p.boxes1) + 4 * batch * p.n;
    const S* boxes2 = static_cast<const S*>(p.boxes2) + 4 * batch * p.m;
    const int row_count = p.n - row0 < kRows ? int(p.n - row0) : kRows;

    __syncthreads();  // the last tile's rows have been read
    if (int(threadIdx.x) < row_count)
      rows[threadIdx.x] = measured<kind>(boxes1 + 4 * (row0 + threadIdx.x), p.format);
    MeasuredBox<T> columns[kColumnsPerThread];
    for (int k = 0; k < kColumnsPerThread; ++k) {
      // past the end any box will do: what it gives is not written
      const int64_t j = column0 + k < p.m ? column0 + k : p.m - 1;
      columns[k] = measured<kind>(boxes2 + 4 * j, p.format);
    }
    __syncthreads();
    if (column0 >= p.m) continue;

    for (int r = 0; r < row_count; ++r) {
      Four<T> four;
      for (int k = 0; k < kColumnsPerThread; ++k)
        four.v[k] = overlap<kind>(rows[r], columns[k], eps);
      T* out = static_cast<T*>(p.out) + (batch * p.n + row0 + r) * p.m + column0;
      if (aligned_rows) {
        *reinterpret_cast<Four<T>*>(out) = four;
      } else {
        for (int k = 0; k < kColumnsPerThread; ++k)
          if (column0 + k < p.m) out[k] = four.v[k];
      }
    }
  }
}

template <IouKind kind, bool own_is_first, class S>
__global__ void backward_kernel(BoxIouBackwardParams p) {
  using T = arithmetic_t<S>;
  __shared__ T partial[4][kThreads];
  const BoxIouParams& f = p.forward;
  const int64_t owns = own_is_first ? f.n : f.m, others = own_is_first ? f.m : f.n;
  const S* own_boxes = static_cast<const S*>(own_is_first ? f.boxes1 : f.boxes2);
  const S* other_boxes = static_cast<const S*>(own_is_first ? f.boxes2 : f.boxes1);
  T* out = static_cast<T*>(own_is_first ? p.grad_boxes1 : p.grad_boxes2);
  const IouEps<T> eps{T(0), T(f.eps)};

  for (int64_t unit = blockIdx.x; unit < f.batch * owns; unit += gridDim.x) {
    const int64_t batch = unit / owns, i = unit % owns;
    const T* grad = static_cast<const T*>(p.grad_out) + batch * f.n * f.m;
    const auto own = measured<kind>(own_boxes + 4 * unit, f.format);
    Box<T> sum{T(0), T(0), T(0), T(0)}, ignored = sum;
    for (int64_t j = threadIdx.x; j < others; j += kThreads) {
      const auto other = measured<kind>(other_boxes + 4 * (batch * others + j), f.format);
      if (own_is_first)
        overlap_backward<kind>(own, other, eps, grad[i * f.m + j], sum, ignored);
      else
        overlap_backward<kind>(other, own, eps, grad[j * f.m + i], ignored, sum);
    }
    partial[0][threadIdx.x] = sum.x1, partial[1][threadIdx.x] = sum.y1;
    partial[2][threadIdx.x] = sum.x2, partial[3][threadIdx.x] = sum.y2;
    for (int step = kThreads / 2; step > 0; step /= 2) {
      __syncthreads();
      if (int(threadIdx.x) < step)
        for (int k = 0; k < 4; ++k) partial[k][threadIdx.x] += partial[k][threadIdx.x + step];
    }
    if (threadIdx.x == 0)
      for (int k = 0; k < 4; ++k) out[4 * unit + k] = partial[k][0];
    __syncthreads();  // before the next box overwrites the sums
  }
}

}  // namespace

Status box_iou_cuda(const BoxIouParams& p, Stream stream) {
  if (p.batch * p.n * p.m == 0) return {};
  const int64_t row_tiles = (p.n + kRows - 1) / kRows;
  const int64_t column_tiles = (p.m + kColumns - 1) / kColumns;
  // every row then begins where 16 bytes may be written at once
  const bool aligned_rows =
      p.m % kColumnsPerThread == 0 && reinterpret_cast<uintptr_t>(p.out) % 16 == 0;
  return with_storage(p.dtype, [&](auto storage) {
    return with_kind(p.kind, [&](auto kind) {
      return launch(forward_kernel<decltype(kind)::value, decltype(storage)>,
                    {blocks_for(p.batch * row_tiles * column_tiles, 1), kThreads}, stream, p,
                    row_tiles, column_tiles, aligned_rows);
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
        status = launch(backward_kernel<k, true, S>, {blocks_for(f.batch * f.n, 1), kThreads},
                        stream, p);
      if (status && p.grad_boxes2)
        status = launch(backward_kernel<k, false, S>, {blocks_for(f.batch * f.m, 1), kThreads},
                        stream, p);
      return status;
    });
  });
}

}  // namespace detcore
