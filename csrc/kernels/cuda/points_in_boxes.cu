// One thread per point. All threads of a block go through the same boxes together, so that a box is
// read once per block, and a warp counts its points by one vote.
#include "detcore/points_in_boxes.h"

#include "block_scan.cuh"
#include "launch.cuh"
#include "rotated_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;  // boxes in shared memory

template <class T>
using Measured = Box3d<T, double>;

// Measures the boxes, and clears the counts of their points.
template <class S>
__global__ void measure_kernel(PointsInBoxesParams p) {
  using T = arithmetic_t<S>;
  auto* to = static_cast<Measured<T>*>(p.workspace);
  for (int64_t i = global_thread(); i < p.batch * p.n; i += all_threads()) {
    to[i] = load_measured(InSpace{}, RotatedKind::in_space, static_cast<const S*>(p.boxes), i);
    p.points_of_box[i] = 0;
  }
}

// True unless the point is outside of the circle around the box: a cheap test before holds().
template <class T>
__device__ bool may_hold(const Measured<T>& box, T x, T y) {
  const T dx = x - box.base.x, dy = y - box.base.y, reach = box.base.reach;
  // larger than all rounding errors of a float
  return !(dx * dx + dy * dy > reach * reach * T(1.00001));
}

template <class S>
__global__ void count_kernel(PointsInBoxesParams p, int64_t chunks) {
  using T = arithmetic_t<S>;
  __shared__ Measured<T> tile[kTile];
  const int lane = threadIdx.x % 32;
  for (int64_t chunk = blockIdx.x; chunk < p.batch * chunks; chunk += gridDim.x) {
    const int64_t batch = chunk / chunks, i = chunk % chunks * kThreads + threadIdx.x;
    // threads past the end repeat the last point, and count nothing
    const bool own = i < p.p;
    const int64_t point = batch * p.p + (own ? i : p.p - 1);
    const S* at = static_cast<const S*>(p.points) + 3 * point;
    const T x = widen(at[0]), y = widen(at[1]), z = widen(at[2]);
    int64_t box_of = -1;
    for (int64_t first = 0; first < p.n; first += kTile) {
      const int count = p.n - first < kTile ? int(p.n - first) : kTile;
      __syncthreads();  // the last tile has been read
      if (int(threadIdx.x) < count)
        tile[threadIdx.x] =
            static_cast<const Measured<T>*>(p.workspace)[batch * p.n + first + threadIdx.x];
      __syncthreads();
      for (int k = 0; k < count; k += 32) {
        const int boxes = count - k < 32 ? count - k : 32;
        int held = 0;  // points of the warp in box k + lane
        for (int b = 0; b < boxes; ++b) {
          bool inside = own & may_hold(tile[k + b], x, y);
          if (__any_sync(kAllLanes, inside)) inside = inside & holds(tile[k + b], x, y, z);
          const unsigned votes = __ballot_sync(kAllLanes, inside);
          held = lane == b ? __popc(votes) : held;
          box_of = inside && box_of < 0 ? first + k + b : box_of;
        }
        if (held)
          atomicAdd(reinterpret_cast<unsigned long long*>(p.points_of_box) + batch * p.n + first +
                        k + lane,
                    static_cast<unsigned long long>(held));
      }
    }
    if (own) p.box_of_point[point] = box_of;
  }
}

}  // namespace

size_t points_in_boxes_workspace_cuda(const PointsInBoxesParams& p) {
  return p.batch * p.n *
         (p.dtype == DType::f64 ? sizeof(Measured<double>) : sizeof(Measured<float>));
}

Status points_in_boxes_cuda(const PointsInBoxesParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    Status status;
    if (p.batch * p.n > 0)
      status =
          launch(measure_kernel<S>, {blocks_for(p.batch * p.n, kThreads), kThreads}, stream, p);
    const int64_t chunks = (p.p + kThreads - 1) / kThreads;
    if (status && p.batch * chunks > 0)
      status =
          launch(count_kernel<S>, {blocks_for(p.batch * chunks, 1), kThreads}, stream, p, chunks);
    return status;
  });
}

}  // namespace detcore
