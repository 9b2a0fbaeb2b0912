// Greedy NMS among ranked boxes, without comparing all pairs and without a bit matrix.
//
// IoU > t bounds how far apart two boxes can stand, so boxes are put into the cells of a grid, and
// a box searches a few cells of at most three rows for what suppresses it. Rows are hashed together
// with the class, so that the grid needs no extent, far boxes cost nothing, and one code serves one
// class or many. The few boxes that are larger than the grid was made for are compared with all.
// Boxes get to their buckets by a counting sort: a histogram, its prefix sum, and the insertion.
//
// A box is dead once a kept earlier box suppresses it, and kept once all earlier ones that would
// are dead. A tile of boxes goes round until each is decided: a box waits for at most two others,
// noted when it last looked; what it waits for is better, so somebody can always go on. In which
// order boxes are inserted or decided depends on the machine; what is decided does not.
#pragma once

#include "hash_grid.cuh"
#include "launch.cuh"

namespace detcore {

enum Verdict : uint8_t { kUndecided, kKept, kDead };

// n boxes, best first, and room for the rest. R: a rank.
template <class T, class R>
struct RankedBoxes {
  const Box<T>* boxes;  // [n]
  const int64_t* ids;   // [n] class ids, or null
  uint8_t* verdicts;    // [n] Verdict; those undecided are decided
  R* bucket_ranks;      // [n] which boxes are in the buckets, one bucket after the other
  R* bucket_start;      // [bucket_start_entries(buckets)] where each bucket's begin
  uint32_t n, buckets;  // buckets: a power of two
};

// The histogram counts box r in its bucket, one entry further on, so that inserting, which counts
// again from the prefix sum, moves each bucket's start to where the next one begins. A box that
// must be compared with all counts as `large`.
template <class T, class R>
__device__ void count_or_insert(const RankedBoxes<T, R>& ranked, const HashGrid<T>& grid,
                                uint32_t r, bool inserting, uint32_t& large) {
  if (ranked.verdicts[r] != kUndecided) return;
  Cell cell;
  if (cell_of(grid, ranked.boxes[r], cell)) {
    const uint32_t bucket = bucket_of(cell, ranked.ids ? ranked.ids[r] : 0, grid.last);
    const uint32_t place = count_one(ranked.bucket_start, bucket + 1);
    if (inserting) ranked.bucket_ranks[place] = R(r);
  } else {
    const uint32_t place = count_one(&large, 0);
    if (inserting) ranked.bucket_ranks[ranked.n - 1 - place] = R(r);
  }
}

// The same boxes, all in their buckets; the `large` ones at the end of bucket_ranks. Verdicts are
// read and written by many at once.
template <class T, class R>
struct BucketedBoxes : RankedBoxes<T, R> {
  uint32_t large;

  __device__ BucketedBoxes(const RankedBoxes<T, R>& ranked, uint32_t large)
      : RankedBoxes<T, R>(ranked), large(large) {}
  __device__ uint8_t verdict(uint32_t rank) const { return peek(this->verdicts + rank); }
  __device__ int64_t id(uint32_t rank) const { return this->ids ? this->ids[rank] : 0; }
  __device__ bool same_class(uint32_t a, uint32_t b) const {
    return !this->ids || this->ids[a] == this->ids[b];
  }
};

struct Range {
  uint32_t begin, end;
};
constexpr int kRows = 3, kRanges = 2 * kRows + 1;  // of bucket_ranks in which a box searches

// Where one box searches.
template <class T, class R>
struct Search {
  const BucketedBoxes<T, R>& bucketed;
  const NmsDecision<T>& decision;
  Box<T> box;
  uint32_t rank;
  uint32_t bucket[kRows];  // the first of each row; those beyond `rows` are unused
  int32_t columns, rows;   // 0 rows: everywhere

  __device__ Search(const BucketedBoxes<T, R>& bucketed, const HashGrid<T>& grid,
                    const NmsDecision<T>& decision, uint32_t rank)
      : bucketed(bucketed),
        decision(decision),
        box(bucketed.boxes[rank]),
        rank(rank),
        columns(0),
        rows(0) {
    Cell low;
    if (cell_of(grid, box, low)) {
      columns = cells_near(box.x1 - grid.x0, box.width(), grid.widest, grid, grid.per_x, low.x);
      rows = cells_near(box.y1 - grid.y0, box.height(), grid.tallest, grid, grid.per_y, low.y);
    }
    for (int row = 0; row < kRows; ++row)
      bucket[row] = bucket_of({low.x, low.y + row}, bucketed.id(rank), grid.last);
  }

  // A row is one range, or two where its buckets begin anew.
  __device__ Range range(int k, uint32_t last) const {
    if (k == kRanges - 1) return {bucketed.n - bucketed.large, bucketed.n};
    if (rows == 0) return {0, k == 0 ? uint32_t(bucketed.bucket_start[last + 1]) : 0};
    if (k / 2 >= rows) return {0, 0};
    const uint32_t b = k < 2 ? bucket[0] : k < 4 ? bucket[1] : bucket[2], end = b + columns;
    if (k % 2 == 0)
      return {bucketed.bucket_start[b], bucketed.bucket_start[end <= last ? end : last + 1]};
    return {0, end > last + 1 ? uint32_t(bucketed.bucket_start[end - last - 1]) : 0};
  }
  __device__ uint32_t candidates(uint32_t last) const {
    uint32_t sum = 0;
    for (int k = 0; k < kRanges; ++k) sum += range(k, last).end - range(k, last).begin;
    return sum;
  }
  // Whether the candidate is better, not dead, and would suppress the box.
  __device__ bool found(uint32_t candidate, uint8_t& verdict) const {
    if (candidate >= rank) return false;
    verdict = bucketed.verdict(candidate);
    return verdict != kDead && decision(bucketed.boxes[candidate], box) &&
           bucketed.same_class(candidate, rank);
  }
};

// The better boxes that a box waits for; none: its own rank.
struct Waiting {
  uint32_t first, second;
  bool more;  // than these two

  // False: there is no room for another.
  __device__ bool add(uint32_t better, uint32_t none) {
    if (better == first || better == second) return true;  // buckets may meet twice
    if (first == none)
      first = better;
    else if (second == none)
      second = better;
    else
      more = true;
    return !more;
  }
};

// Searches one range after the other, by one thread.
template <class T, class R>
__device__ Verdict search_alone(const Search<T, R>& search, uint32_t last, Waiting& waiting) {
  waiting = {search.rank, search.rank, false};
  for (int k = 0; k < kRanges; ++k) {
    const Range range = search.range(k, last);
    for (uint32_t i = range.begin; i < range.end; ++i) {
      uint8_t verdict;
      const uint32_t candidate = search.bucketed.bucket_ranks[i];
      if (!search.found(candidate, verdict)) continue;
      if (verdict == kKept) return kDead;
      if (!waiting.add(candidate, search.rank)) return kUndecided;
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
      uint32_t candidate = search.rank;
      bool found = false;
      if (at + lane < range.end) {
        candidate = search.bucketed.bucket_ranks[at + lane];
        found = search.found(candidate, verdict);
      }
      if (__any_sync(kAllLanes, found && verdict == kKept)) return kDead;
      unsigned votes = __ballot_sync(kAllLanes, found);
      while (votes) {
        const uint32_t next = __shfl_sync(kAllLanes, candidate, __ffs(int(votes)) - 1);
        votes &= votes - 1;
        if (!waiting.add(next, search.rank)) return kUndecided;
      }
    }
  }
  return waiting.first == search.rank ? kKept : kUndecided;
}

// What those it waits for make of a box: undecided also where it must search again.
template <class T, class R>
__device__ Verdict verdict_by(const BucketedBoxes<T, R>& bucketed, uint32_t rank,
                              const Waiting& waiting, bool& search_again) {
  const uint8_t first = bucketed.verdict(waiting.first);
  const uint8_t second = waiting.second == rank ? uint8_t(kDead) : bucketed.verdict(waiting.second);
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

// Decides one box per thread, those of ranks first + threadIdx.x, by all threads of a block; better
// boxes have been decided, or are being decided by others.
template <class T, class R>
__device__ void decide_tile(const BucketedBoxes<T, R>& bucketed, const HashGrid<T>& grid,
                            const NmsDecision<T>& decision, uint32_t first) {
  const uint32_t rank = first + threadIdx.x < bucketed.n ? first + threadIdx.x : bucketed.n - 1;
  bool open = first + threadIdx.x < bucketed.n && bucketed.verdict(rank) == kUndecided;
  uint32_t candidates = 0;
  if (open) candidates = Search<T, R>(bucketed, grid, decision, rank).candidates(grid.last);
  const bool together = better_together(candidates);
  bool searching = true;
  Waiting waiting{rank, rank, false};
  while (__syncthreads_or(open)) {
    Verdict verdict = kUndecided;
    if (open && !searching) verdict = verdict_by(bucketed, rank, waiting, searching);
    if (open && searching && !together) {
      verdict = search_alone(Search<T, R>(bucketed, grid, decision, rank), grid.last, waiting);
      searching = false;
    }
    unsigned helped = __ballot_sync(kAllLanes, open && searching && together);
    while (helped) {
      const int lane = __ffs(int(helped)) - 1;
      helped &= helped - 1;
      const uint32_t whose = __shfl_sync(kAllLanes, rank, lane);
      Waiting theirs;
      const Verdict found =
          search_together(Search<T, R>(bucketed, grid, decision, whose), grid.last, theirs);
      if (int(threadIdx.x % 32) == lane) verdict = found, waiting = theirs, searching = false;
    }
    if (open && verdict != kUndecided) {
      publish(bucketed.verdicts + rank, uint8_t(verdict));
      open = false;
    }
  }
}

// All of it by one block: fills the buckets, decides tile after tile, and stops after the tile in
// which `most` are kept. Returns how many, from the best on, have been decided.
template <class T, class R>
__device__ uint32_t greedy_nms(const RankedBoxes<T, R>& ranked, const NmsDecision<T>& decision,
                               uint32_t most) {
  __shared__ uint32_t large[2];  // counted, and inserted
  const uint32_t n = ranked.n;
  if (threadIdx.x < 2) large[threadIdx.x] = 0;
  for (uint32_t b = threadIdx.x; b < bucket_start_entries(ranked.buckets); b += blockDim.x)
    ranked.bucket_start[b] = 0;
  __syncthreads();
  const HashGrid<T> grid = make_grid(ranked.boxes, n, decision.below, ranked.buckets);
  for (int inserting = 0; inserting < 2; ++inserting) {
    for (uint32_t r = threadIdx.x; r < n; r += blockDim.x)
      count_or_insert(ranked, grid, r, inserting, large[inserting]);
    __syncthreads();
    if (!inserting) exclusive_scan(ranked.bucket_start + 1, ranked.buckets);
  }
  const BucketedBoxes<T, R> bucketed(ranked, large[1]);
  uint32_t decided = 0, kept = 0;
  while (decided < n && kept < most) {
    decide_tile(bucketed, grid, decision, decided);
    const uint32_t r = decided + threadIdx.x;
    if (decided + blockDim.x < n)  // the count is not needed after the last tile
      kept += __syncthreads_count(r < n && ranked.verdicts[r] == kKept);
    decided += blockDim.x;
  }
  return decided < n ? decided : n;
}

}  // namespace detcore
