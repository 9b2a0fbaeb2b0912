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

#include "hash_grid.cuh"

namespace detcore {

enum Verdict : uint8_t { kUndecided, kKept, kDead };

// n boxes, best first, and room for the rest. R: a rank.
template <class T, class R>
struct Ranked {
  const Box<T>* boxes;  // [n]
  const int64_t* ids;   // [n] class ids, or null
  uint8_t* verdicts;    // [n] Verdict; those undecided are decided
  R* items;             // [n]
  R* begin;             // [begins_of(buckets)]
  uint32_t n, buckets;  // buckets: a power of two
};

// Counts box r in its bucket, one place further on, so that filing, which counts again, moves each
// bucket's begin to where the next begins. A box that must be compared with all counts as `large`.
template <class T, class R>
__device__ void file(const Ranked<T, R>& ranked, const Grid<T>& grid, uint32_t r, bool filing,
                     uint32_t& large) {
  if (ranked.verdicts[r] != kUndecided) return;
  Cell cell;
  if (cell_of(grid, ranked.boxes[r], cell)) {
    const uint32_t bucket = bucket_of(cell, ranked.ids ? ranked.ids[r] : 0, grid.last);
    const uint32_t place = count_one(ranked.begin, bucket + 1);
    if (filing) ranked.items[place] = R(r);
  } else {
    const uint32_t place = count_one(&large, 0);
    if (filing) ranked.items[ranked.n - 1 - place] = R(r);
  }
}

// The same boxes, filed: items bucket by bucket, each bucket's from `begin` on; the `large` ones at
// the end. Verdicts are read and written by many at once.
template <class T, class R>
struct Filed : Ranked<T, R> {
  uint32_t large;

  __device__ Filed(const Ranked<T, R>& ranked, uint32_t large)
      : Ranked<T, R>(ranked), large(large) {}
  __device__ uint8_t verdict(uint32_t rank) const { return peek(this->verdicts + rank); }
  __device__ int64_t id(uint32_t rank) const { return this->ids ? this->ids[rank] : 0; }
  __device__ bool same_class(uint32_t a, uint32_t b) const {
    return !this->ids || this->ids[a] == this->ids[b];
  }
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

// Files and decides them, by all threads of a block, and stops after the tile in which `most` are
// kept. Returns how many, from the best on, have been decided.
template <class T, class R>
__device__ uint32_t suppress(const Ranked<T, R>& ranked, const Decision<T>& decision,
                             uint32_t most) {
  __shared__ uint32_t large[2];  // counted, and filed
  const uint32_t n = ranked.n;
  if (threadIdx.x < 2) large[threadIdx.x] = 0;
  for (uint32_t b = threadIdx.x; b < begins_of(ranked.buckets); b += blockDim.x)
    ranked.begin[b] = 0;
  __syncthreads();
  const Grid<T> grid = make_grid(ranked.boxes, n, decision.below, ranked.buckets);
  for (int filing = 0; filing < 2; ++filing) {
    for (uint32_t r = threadIdx.x; r < n; r += blockDim.x)
      file(ranked, grid, r, filing, large[filing]);
    __syncthreads();
    if (!filing) scan_block(ranked.begin + 1, ranked.buckets);
  }
  const Filed<T, R> filed(ranked, large[1]);
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
