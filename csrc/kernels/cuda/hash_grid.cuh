// A grid over the low corners of boxes, with rows hashed into buckets. It tells where to search for
// the boxes whose IoU with a given box can exceed the threshold.
#pragma once

#include "block_scan.cuh"
#include "detcore/nms_decision.h"

namespace detcore {

// If the IoU of two boxes exceeds t, their overlap along each axis exceeds t times the longer side.
// So if a's low corner comes before b's, the distance of the corners is less than (1 - t) * side of
// a, and the side of a is at most (side of b) / t.
template <class T>
struct HashGrid {
  T x0, y0;             // corner of some box: origin near the boxes, to keep precision
  T per_x, per_y;       // cells per pixel
  T widest, tallest;    // limits on a box in the grid, pixels; 0: no box is in the grid
  T reach;              // 1 - t plus a small margin, as a fraction of a side
  T inverse_threshold;  // 1 / t
  uint32_t last;        // buckets - 1; the number of buckets is a power of two
};
constexpr uint32_t kLeastBuckets = 64;
constexpr int32_t kMostCells = 1 << 17;  // from the origin; a float then rounds to 1/64 of a cell
constexpr float kSlack = 0.1f;           // fraction of a cell, for the rounding errors of two boxes
// Cell size as a multiple of the reach of the largest box. Small cells along x cost nothing. Along
// y the cell is larger than the reach, so three rows are enough.
constexpr float kCellX = 0.25f, kCellY = 1.15f;

// True if the IoU of this box with any other is 0 or NaN, as for an area that is not finite.
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

// Returns false if the box must be compared with all boxes: it is too large, too far away, or so
// small that its area has lost precision.
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

// The last cell in which the low corner of an overlapping box can be.
template <class T>
__device__ int32_t last_cell(T at, T side, const HashGrid<T>& grid, T per_pixel) {
  return int32_t(floor_of((at + side * grid.reach) * per_pixel + T(kSlack)));
}

// Finds the cells in which the low corners of overlapping boxes can be, along the axis on which the
// box's own low corner is at `at`: sets `low` to the first and returns their number.
template <class T>
__device__ int32_t cells_near(T at, T side, T longest, const HashGrid<T>& grid, T per_pixel,
                              int32_t& low) {
  const T before = lane_min(longest, side * grid.inverse_threshold) * grid.reach;
  low = int32_t(floor_of((at - before) * per_pixel - T(kSlack)));
  return last_cell(at, side, grid, per_pixel) - low + 1;
}

// Adjacent cells of a row go to adjacent buckets, so that they are one contiguous range of boxes.
__device__ inline uint32_t bucket_of(Cell cell, int64_t id, uint32_t last) {
  uint32_t h = uint32_t(cell.y) * 0x9e3779b1u ^ uint32_t(id) * 0x85ebca6bu ^
               uint32_t(uint64_t(id) >> 32) * 0xc2b2ae35u;
  h ^= h >> 15, h *= 0x2c1b3c6du, h ^= h >> 13;
  return (h + uint32_t(cell.x)) & last;
}

// Increments counter i and returns its old value. CUDA has no atomicAdd for 16-bit integers, so the
// second version adds to two counters at once.
__device__ inline uint32_t count_one(uint32_t* counters, uint32_t i) {
  return atomicAdd(counters + i, 1u);
}
__device__ inline uint32_t count_one(uint16_t* counters, uint32_t i) {
  const uint32_t shift = i % 2 * 16;
  return atomicAdd(reinterpret_cast<uint32_t*>(counters) + i / 2, 1u << shift) >> shift & 0xffffu;
}
// Size of an array of buckets. The padding before the first bucket is zero, and its size keeps the
// buckets aligned to 16 bytes.
constexpr uint32_t kBucketPadding = 8;
constexpr size_t bucket_entries(uint32_t buckets) { return buckets + kBucketPadding; }

// Makes a grid for n boxes; all threads of a block call it. box_at(i) returns box i. The grid fits
// all boxes but a few outliers: from 32 samples of 32 boxes we take the largest sides and one
// corner, then the median over the samples, and add an eighth to the sides.
template <class T, class BoxAt>
__device__ HashGrid<T> make_grid(const BoxAt& box_at, uint32_t n, T below, uint32_t buckets) {
  // width, height, x1 and y1; an empty sample is infinite, so that it sorts last
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
