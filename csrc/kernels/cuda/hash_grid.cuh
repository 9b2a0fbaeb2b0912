// A grid over box corners, its rows hashed into buckets: where to search for the boxes that can
// overlap one by more than the threshold.
#pragma once

#include "block_scan.cuh"
#include "detcore/nms_decision.h"

namespace detcore {

// The grid. A pair above the threshold t overlaps along each axis by more than t times its longer
// side. So of two boxes a and b with low corners in this order, b's corner is less than 1 - t times
// a's side away; and a's side is at most b's through t.
template <class T>
struct HashGrid {
  T x0, y0;             // of some box: positions count from there, so that they keep their digits
  T per_x, per_y;       // cells per pixel
  T widest, tallest;    // pixels; 0: no box has a cell
  T reach;              // of a side: 1 - t, and a little
  T inverse_threshold;  // 1 / t
  uint32_t last;        // buckets - 1; their number is a power of two
};
constexpr uint32_t kLeastBuckets = 64;
constexpr int32_t kMostCells = 1 << 17;  // from the origin: a float's rounding is 1/64 of a cell
constexpr float kSlack = 0.1f;           // of a cell, for the rounding of two boxes
// Cells along x are a fourth of the reach of the widest box, for they cost nothing; along y more
// than all of it, so that three rows suffice.
constexpr float kCellX = 0.25f, kCellY = 1.15f;

// A box that overlaps nothing: no pair with it has a quotient above 0. An area that is not finite
// gives quotients of 0 or NaN.
template <class T>
__device__ bool overlaps_nothing(const Box<T>& b) {
  const T area = b.area();
  return !(b.width() > T(0) && area > T(0) && area < T(INFINITY));
}

__device__ inline float floor_of(float x) { return ::floorf(x); }
__device__ inline double floor_of(double x) { return ::floor(x); }

struct Cell {
  int32_t x, y;
};

// False where the box must be compared with all: too large, too far out, or so small that its area
// has lost digits.
template <class T>
__device__ bool cell_of(const HashGrid<T>& grid, const Box<T>& b, Cell& cell) {
  const T limit = T(kMostCells);
  const T x = (b.x1 - grid.x0) * grid.per_x, y = (b.y1 - grid.y0) * grid.per_y;
  const bool fits = b.width() <= grid.widest && b.height() <= grid.tallest &&
                    b.area() > kLeastExactArea<T> && x < limit && x > -limit && y < limit &&
                    y > -limit;
  cell = {fits ? int32_t(floor_of(x)) : 0, fits ? int32_t(floor_of(y)) : 0};
  return fits;
}

// The last cell in which a partner after a box in the grid can be.
template <class T>
__device__ int32_t last_cell(T at, T side, const HashGrid<T>& grid, T per_pixel) {
  return int32_t(floor_of((at + side * grid.reach) * per_pixel + T(kSlack)));
}

// The cells from `low` on in which the partners of a box in the grid can be; returns how many, on
// an axis on which its low corner is at `at`.
template <class T>
__device__ int32_t cells_near(T at, T side, T longest, const HashGrid<T>& grid, T per_pixel,
                              int32_t& low) {
  const T before = lane_min(longest, side * grid.inverse_threshold) * grid.reach;
  low = int32_t(floor_of((at - before) * per_pixel - T(kSlack)));
  return last_cell(at, side, grid, per_pixel) - low + 1;
}

// Cells side by side in a row are neighbours here too, so that they are one range of items.
__device__ inline uint32_t bucket_of(Cell cell, int64_t id, uint32_t last) {
  uint32_t h = uint32_t(cell.y) * 0x9e3779b1u ^ uint32_t(id) * 0x85ebca6bu ^
               uint32_t(uint64_t(id) >> 32) * 0xc2b2ae35u;
  h ^= h >> 15, h *= 0x2c1b3c6du, h ^= h >> 13;
  return (h + uint32_t(cell.x)) & last;
}

// Counts one more, and returns how many there were. Two counters of 16 bits are added to as one.
__device__ inline uint32_t count_one(uint32_t* counters, uint32_t i) {
  return atomicAdd(counters + i, 1u);
}
__device__ inline uint32_t count_one(uint16_t* counters, uint32_t i) {
  const uint32_t shift = i % 2 * 16;
  return atomicAdd(reinterpret_cast<uint32_t*>(counters) + i / 2, 1u << shift) >> shift & 0xffffu;
}
// Entries of an array of buckets: those before the first are zeros, and keep it aligned to 16
// bytes.
constexpr uint32_t kBucketPadding = 8;
constexpr size_t bucket_entries(uint32_t buckets) { return buckets + kBucketPadding; }

// A grid for n boxes, by all threads of a block, for a size that all but a few of them keep to, and
// about a place where they are. box(i): the box of index i. Of 32 samples of 32 boxes the largest
// sides and a corner are taken, and of those the median, of the sides an eighth more: outliers do
// not spoil it.
template <class T, class BoxAt>
__device__ HashGrid<T> make_grid(const BoxAt& box_at, uint32_t n, T below, uint32_t buckets) {
  // of width, height, x1, y1; an empty sample is infinite, so that it comes after the others
  __shared__ T samples[4][32], median[4];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const uint32_t stride = n > 1024 ? n / 1024 : 1;
  for (int sample = warp; sample < 32; sample += warps) {
    const uint32_t i = uint32_t(sample * 32 + lane) * stride;
    const Box<T> box = box_at(i < n ? i : n - 1);
    const bool whole = i < n && !overlaps_nothing(box);
    const unsigned present = __ballot_sync(kAllLanes, whole);
    if (present == 0) {
      if (lane < 4) samples[lane][sample] = T(INFINITY);
      continue;
    }
    T w = whole ? box.width() : T(0), h = whole ? box.height() : T(0);
    for (int flip = 16; flip > 0; flip /= 2) {
      w = lane_max(w, __shfl_xor_sync(kAllLanes, w, flip));
      h = lane_max(h, __shfl_xor_sync(kAllLanes, h, flip));
    }
    if (lane == __ffs(int(present)) - 1) {
      samples[0][sample] = w, samples[1][sample] = h;
      samples[2][sample] = box.x1, samples[3][sample] = box.y1;
    }
  }
  if (threadIdx.x < 4) median[threadIdx.x] = T(0);
  __syncthreads();
  for (int k = warp; k < 4; k += warps) {
    const T own = samples[k][lane];
    const int filled = __popc(__ballot_sync(kAllLanes, own < T(INFINITY)));
    int smaller = 0;
    for (int l = 0; l < 32; ++l) {
      const T other = samples[k][l];
      smaller += other < own || (other == own && l < lane);
    }
    if (own < T(INFINITY) && smaller == filled / 2) median[k] = own;
  }
  __syncthreads();
  const T widest = median[0] * T(1.125), tallest = median[1] * T(1.125);
  const T reach = lane_max(T(1) - below, T(1.0 / 16)) * T(1.001);
  return {median[2],
          median[3],
          T(1) / (widest * reach * T(kCellX)),
          T(1) / (tallest * reach * T(kCellY)),
          widest,
          tallest,
          reach,
          T(1) / below,
          buckets - 1};
}

}  // namespace detcore
