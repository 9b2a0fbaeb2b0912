// Greedy suppression among ranked boxes, without comparing all pairs and without a bit matrix.
//
// IoU > t bounds how far apart two boxes can stand, so boxes are filed in the cells of a grid, and
// a box looks for what suppresses it in a few cells of at most three rows. Rows are hashed together
// with the class, so that the grid needs no extent, far boxes cost nothing, and one code serves one
// class or many. The few boxes that are larger than the grid was made for are compared with all.
//
// A box is dead once a kept earlier box suppresses it, and kept once all earlier ones that would
// are dead. A tile of boxes goes round until each is decided: a box waits for at most two others,
// noted when it last looked; what it waits for is better, so somebody can always go on. In which
// order boxes are filed or decided depends on the machine; what is decided does not.
#pragma once

#include "block.cuh"

namespace detcore {

// The decision `double(inter / union) > threshold`. A multiplication decides where rounding cannot
// matter, which is nearly always; the quotient decides the rest.
template <class T>
struct Decision {
  T below;   // the largest T not above the threshold: q > threshold just when q > below
  T surely;  // inter < surely * union: not above
  T above;   // inter > above * union: above

  explicit Decision(double threshold) {
    below = T(threshold);
    if (double(below) > threshold) below = T(::nextafterf(float(below), 0.0f));
    surely = below * T(1 - 1e-6);
    // a quotient might underflow under a threshold next to 0: it is then always taken
    above = below > T(1e-6) ? below * T(1 + 1e-6) : T(HUGE_VAL);
  }
  __device__ bool operator()(const Box<T>& a, const Box<T>& b) const {
    const T inter = intersection(a, b);
    const T uni = a.area() + b.area() - inter;
    if (!(inter >= surely * uni)) return false;
    return inter > above * uni || inter / uni > below;
  }
};

// The grid. A pair above the threshold t overlaps along each axis by more than t times its longer
// side. So of two boxes a and b with low corners in this order, b's corner is less than 1 - t times
// a's side away; and a's side is at most b's through t.
template <class T>
struct Grid {
  T x0, y0;           // of some box: positions count from there, so that they keep their digits
  T per_x, per_y;     // cells a pixel
  T widest, tallest;  // pixels; 0: no box can be filed
  T reach;            // 1 - t, and a little
  T longer;           // 1 / t
  uint32_t last;      // buckets - 1; their number is a power of two
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
__device__ bool cell_of(const Grid<T>& grid, const Box<T>& b, Cell& cell) {
  const T least = sizeof(T) == 8 ? T(1e-280) : T(1e-30), limit = T(kMostCells);
  const T x = (b.x1 - grid.x0) * grid.per_x, y = (b.y1 - grid.y0) * grid.per_y;
  const bool fits = b.width() <= grid.widest && b.height() <= grid.tallest && b.area() > least &&
                    x < limit && x > -limit && y < limit && y > -limit;
  cell = {fits ? int32_t(floor_of(x)) : 0, fits ? int32_t(floor_of(y)) : 0};
  return fits;
}

// The cells from `low` on in which the partners of a filed box can be; returns how many, on an axis
// on which its low corner is at `at`.
template <class T>
__device__ int32_t cells_near(T at, T side, T longest, const Grid<T>& grid, T per_pixel,
                              int32_t& low) {
  const T before = lane_min(longest, side * grid.longer) * grid.reach, after = side * grid.reach;
  low = int32_t(floor_of((at - before) * per_pixel - T(kSlack)));
  return int32_t(floor_of((at + after) * per_pixel + T(kSlack))) - low + 1;
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
// Entries of `begin`: one a bucket, one for the end of the last, and what 16 bits need for company.
constexpr size_t begins_of(uint32_t buckets) { return buckets + 2; }

// A grid for these boxes, by all threads of a block, for a size that all but a few of them keep to,
// and about a place where they are. Of 32 samples of 32 boxes the largest sides and a corner are
// taken, and of those the median, of the sides an eighth more: outliers do not spoil it.
template <class T>
__device__ Grid<T> make_grid(const Box<T>* boxes, uint32_t n, T below, uint32_t buckets) {
  __shared__ T samples[4][32], median[4];  // of width, height, x1, y1; no width: an empty sample
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const uint32_t stride = n > 1024 ? n / 1024 : 1;
  for (int sample = warp; sample < 32; sample += warps) {
    const uint32_t i = uint32_t(sample * 32 + lane) * stride;
    const Box<T> box = boxes[i < n ? i : n - 1];
    const bool whole = i < n && !overlaps_nothing(box);
    T w = whole ? box.width() : T(0), h = whole ? box.height() : T(0);
    for (int flip = 16; flip > 0; flip /= 2) {
      w = lane_max(w, __shfl_xor_sync(kAllLanes, w, flip));
      h = lane_max(h, __shfl_xor_sync(kAllLanes, h, flip));
    }
    const int first = __ffs(int(__ballot_sync(kAllLanes, whole))) - 1;
    if (lane == (first < 0 ? 0 : first)) {
      samples[0][sample] = w, samples[1][sample] = h;
      samples[2][sample] = box.x1, samples[3][sample] = box.y1;
    }
  }
  if (threadIdx.x < 4) median[threadIdx.x] = T(0);
  __syncthreads();
  for (int k = warp; k < 4; k += warps) {
    const T own = samples[k][lane];
    const unsigned filled = __ballot_sync(kAllLanes, samples[0][lane] > T(0));
    int smaller = 0;
    for (int l = 0; l < 32; ++l) {
      const T other = __shfl_sync(kAllLanes, own, l);
      smaller += (filled >> l & 1) && (other < own || (other == own && l < lane));
    }
    if ((filled >> lane & 1) && smaller == __popc(filled) / 2) median[k] = own;
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

enum Verdict : uint8_t { kUndecided, kKept, kDead };

// n ranked boxes, filed. R: a rank.
template <class T, class R>
struct Filed {
  const Box<T>* boxes;  // [n]
  const int64_t* ids;   // [n] class ids, or null
  uint8_t* verdicts;    // [n] Verdict; read and written by many at once
  const R* items;       // [n] ranks, bucket by bucket; the `large` ones at the end
  const R* begin;       // [begins_of(buckets)] where each bucket's items begin
  uint32_t n, large;

  __device__ uint8_t verdict(uint32_t rank) const { return peek(verdicts + rank); }
  __device__ int64_t id(uint32_t rank) const { return ids ? ids[rank] : 0; }
  __device__ bool same_class(uint32_t a, uint32_t b) const { return !ids || ids[a] == ids[b]; }
};

struct Range {
  uint32_t begin, end;
};
constexpr int kRows = 3, kRanges = 2 * kRows + 1;  // of items in which a box searches

// Where one box searches.
template <class T, class R>
struct Search {
  const Filed<T, R>& filed;
  const Decision<T>& decision;
  Box<T> box;
  uint32_t rank;
  uint32_t bucket[kRows];  // the first of each row; those beyond `rows` are unused
  int32_t columns, rows;   // 0 rows: everywhere

  __device__ Search(const Filed<T, R>& filed, const Grid<T>& grid, const Decision<T>& decision,
                    uint32_t rank)
      : filed(filed), decision(decision), box(filed.boxes[rank]), rank(rank), columns(0), rows(0) {
    Cell low;
    if (cell_of(grid, box, low)) {
      columns = cells_near(box.x1 - grid.x0, box.width(), grid.widest, grid, grid.per_x, low.x);
      rows = cells_near(box.y1 - grid.y0, box.height(), grid.tallest, grid, grid.per_y, low.y);
    }
    for (int row = 0; row < kRows; ++row)
      bucket[row] = bucket_of({low.x, low.y + row}, filed.id(rank), grid.last);
  }

  // A row is one range, or two where its buckets begin anew.
  __device__ Range range(int k, uint32_t last) const {
    if (k == kRanges - 1) return {filed.n - filed.large, filed.n};
    if (rows == 0) return {0, k == 0 ? uint32_t(filed.begin[last + 1]) : 0};
    if (k / 2 >= rows) return {0, 0};
    const uint32_t b = k < 2 ? bucket[0] : k < 4 ? bucket[1] : bucket[2], end = b + columns;
    if (k % 2 == 0) return {filed.begin[b], filed.begin[end <= last ? end : last + 1]};
    return {0, end > last + 1 ? uint32_t(filed.begin[end - last - 1]) : 0};
  }
  __device__ uint32_t candidates(uint32_t last) const {
    uint32_t sum = 0;
    for (int k = 0; k < kRanges; ++k) sum += range(k, last).end - range(k, last).begin;
    return sum;
  }
  // Whether the item is better, not dead, and would suppress the box.
  __device__ bool found(uint32_t item, uint8_t& verdict) const {
    if (item >= rank) return false;
    verdict = filed.verdict(item);
    return verdict != kDead && decision(filed.boxes[item], box) && filed.same_class(item, rank);
  }
};

// The better boxes that a box waits for; none: its own rank.
struct Waiting {
  uint32_t first, second;
  bool more;  // than these two

  // False: there is no room for another.
  __device__ bool add(uint32_t item, uint32_t none) {
    if (item == first || item == second) return true;  // buckets may meet twice
    if (first == none)
      first = item;
    else if (second == none)
      second = item;
    else
      more = true;
    return !more;
  }
};

// Looks through one range after the other, by one thread.
template <class T, class R>
__device__ Verdict search_alone(const Search<T, R>& search, uint32_t last, Waiting& waiting) {
  waiting = {search.rank, search.rank, false};
  for (int k = 0; k < kRanges; ++k) {
    const Range range = search.range(k, last);
    for (uint32_t i = range.begin; i < range.end; ++i) {
      uint8_t verdict;
      const uint32_t item = search.filed.items[i];
      if (!search.found(item, verdict)) continue;
      if (verdict == kKept) return kDead;
      if (!waiting.add(item, search.rank)) return kUndecided;
    }
  }
  return waiting.first == search.rank ? kKept : kUndecided;
}

// The same by the lanes of a warp, all for one box.
template <class T, class R>
__device__ Verdict search_together(const Search<T, R>& search, uint32_t last, Waiting& waiting) {
  const int lane = threadIdx.x % 32;
  waiting = {search.rank, search.rank, false};
  for (int k = 0; k < kRanges; ++k) {
    const Range range = search.range(k, last);
    for (uint32_t at = range.begin; at < range.end; at += 32) {
      uint8_t verdict = kDead;
      uint32_t item = search.rank;
      bool found = false;
      if (at + lane < range.end) {
        item = search.filed.items[at + lane];
        found = search.found(item, verdict);
      }
      if (__any_sync(kAllLanes, found && verdict == kKept)) return kDead;
      unsigned votes = __ballot_sync(kAllLanes, found);
      while (votes) {
        const uint32_t next = __shfl_sync(kAllLanes, item, __ffs(int(votes)) - 1);
        votes &= votes - 1;
        if (!waiting.add(next, search.rank)) return kUndecided;
      }
    }
  }
  return waiting.first == search.rank ? kKept : kUndecided;
}

// What those it waits for make of a box: undecided also where it must search again.
template <class T, class R>
__device__ Verdict verdict_by(const Filed<T, R>& filed, uint32_t rank, const Waiting& waiting,
                              bool& search_again) {
  const uint8_t first = filed.verdict(waiting.first);
  const uint8_t second = waiting.second == rank ? uint8_t(kDead) : filed.verdict(waiting.second);
  if (first == kKept || second == kKept) return kDead;
  if (first != kDead || second != kDead) return kUndecided;
  search_again = waiting.more;
  return waiting.more ? kUndecided : kKept;
}

// Whether this lane's long search is for the whole warp. Alone, a warp takes as long as its longest
// search; together, the searches follow each other. Costs are instructions, roughly.
__device__ inline bool better_together(uint32_t candidates) {
  constexpr float alone = 25, together = 2, start = 350;
  constexpr uint32_t few = 96;
  float longest = float(candidates) * alone;
  float sum = candidates > few ? start + float(candidates) * together : 0;
  for (int flip = 16; flip > 0; flip /= 2) {
    longest = lane_max(longest, __shfl_xor_sync(kAllLanes, longest, flip));
    sum += __shfl_xor_sync(kAllLanes, sum, flip);
  }
  return candidates > few && sum < longest;
}

// Decides one box a thread, those of ranks first + threadIdx.x, by all threads of a block; better
// boxes have been decided, or are being decided by others.
template <class T, class R>
__device__ void decide_tile(const Filed<T, R>& filed, const Grid<T>& grid,
                            const Decision<T>& decision, uint32_t first) {
  const uint32_t rank = first + threadIdx.x < filed.n ? first + threadIdx.x : filed.n - 1;
  bool open = first + threadIdx.x < filed.n && filed.verdict(rank) == kUndecided;
  uint32_t candidates = 0;
  if (open) candidates = Search<T, R>(filed, grid, decision, rank).candidates(grid.last);
  const bool together = better_together(candidates);
  bool searching = true;
  Waiting waiting{rank, rank, false};
  while (__syncthreads_or(open)) {
    Verdict verdict = kUndecided;
    if (open && !searching) verdict = verdict_by(filed, rank, waiting, searching);
    if (open && searching && !together) {
      verdict = search_alone(Search<T, R>(filed, grid, decision, rank), grid.last, waiting);
      searching = false;
    }
    unsigned helped = __ballot_sync(kAllLanes, open && searching && together);
    while (helped) {
      const int lane = __ffs(int(helped)) - 1;
      helped &= helped - 1;
      const uint32_t whose = __shfl_sync(kAllLanes, rank, lane);
      Waiting theirs;
      const Verdict found =
          search_together(Search<T, R>(filed, grid, decision, whose), grid.last, theirs);
      if (int(threadIdx.x % 32) == lane) verdict = found, waiting = theirs, searching = false;
    }
    if (open && verdict != kUndecided) {
      publish(filed.verdicts + rank, uint8_t(verdict));
      open = false;
    }
  }
}

// What one block decides: n boxes best first, and room for the rest. Shared memory, or not.
template <class T, class R>
struct Ranked {
  const Box<T>* boxes;  // [n]
  const int64_t* ids;   // [n] class ids, or null
  uint8_t* verdicts;    // [n] Verdict; those undecided are decided
  R* items;             // [n]
  R* begin;             // [begins_of(buckets)]
  uint32_t n, buckets;  // buckets: a power of two
};

// Files and decides them, by all threads of a block, and stops after the tile in which `most` are
// kept. Returns how many, from the best on, have been decided.
template <class T, class R>
__device__ uint32_t suppress(const Ranked<T, R>& ranked, const Decision<T>& decision,
                             uint32_t most) {
  __shared__ uint32_t large;
  const uint32_t n = ranked.n;
  if (threadIdx.x == 0) large = 0;
  for (uint32_t b = threadIdx.x; b < begins_of(ranked.buckets); b += blockDim.x)
    ranked.begin[b] = 0;
  __syncthreads();
  const Grid<T> grid = make_grid(ranked.boxes, n, decision.below, ranked.buckets);
  // counted one place further on, so that filing moves each bucket's begin to where the next begins
  for (int filing = 0; filing < 2; ++filing) {
    for (uint32_t r = threadIdx.x; r < n; r += blockDim.x) {
      if (ranked.verdicts[r] != kUndecided) continue;
      Cell cell;
      if (cell_of(grid, ranked.boxes[r], cell)) {
        const uint32_t bucket = bucket_of(cell, ranked.ids ? ranked.ids[r] : 0, grid.last);
        const uint32_t place = count_one(ranked.begin, bucket + 1);
        if (filing) ranked.items[place] = R(r);
      } else if (filing) {
        ranked.items[n - 1 - atomicAdd(&large, 1u)] = R(r);
      }
    }
    __syncthreads();
    if (!filing) scan_block(ranked.begin + 1, ranked.buckets);
  }
  const Filed<T, R> filed{ranked.boxes, ranked.ids, ranked.verdicts, ranked.items, ranked.begin, n,
                          large};
  uint32_t decided = 0, kept = 0;
  while (decided < n && kept < most) {
    decide_tile(filed, grid, decision, decided);
    const uint32_t r = decided + threadIdx.x;
    if (decided + blockDim.x < n)  // the count is not needed after the last tile
      kept += __syncthreads_count(r < n && ranked.verdicts[r] == kKept);
    decided += blockDim.x;
  }
  return decided < n ? decided : n;
}

}  // namespace detcore
