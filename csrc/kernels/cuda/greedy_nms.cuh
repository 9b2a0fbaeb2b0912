// Greedy NMS among ranked boxes, without comparing all pairs and without a bit matrix.
//
//   size the cells so that IoU > t is possible only within a row or between adjacent rows
//   for each box: histogram[bucket(box)] += 1                                       grid
//   exclusive prefix sum of the histogram
//   for each box: boxes[bucket_end[bucket(box)]++] = box                            insert
//   for each pair of near boxes of one class with IoU > t:                          compare
//     best_better[worse] = min(best_better[worse], rank of the better box)
//   for each tile of ranks, one thread per box:                                     decide
//     no best_better: keep the box
//     else wait until best_better is decided. If it is kept: suppress the box       wait
//     else the warp searches the neighbours: suppress, keep, or wait for up to two
//
//   row y      . . [ a | 1 . 1 | . .     Box a is compared with the boxes 1 and 2. The boxes
//   row y + 1  . | 2 . 2 . 2 . 2 | .     before it and those of row y - 1 are compared with a.
//
// Rows are hashed together with the class, so the grid needs no extent, distant boxes cost nothing,
// and the same code serves one class or many. The few boxes larger than the cells were made for are
// compared with all boxes. If hundreds of boxes share one place, comparing all pairs would take
// longer than deciding the boxes by rank. Then best_better stays empty and every box starts with
// the search.
//
// There is no deadlock: a box waits only for better boxes, so the best undecided box can always go
// on. The order in which boxes are inserted, compared and decided depends on timing, but the
// verdicts do not.
#pragma once

#include "hash_grid.cuh"
#include "launch.cuh"
#include "nms_pairs.cuh"

namespace detcore {

enum Verdict : uint8_t { kUndecided, kKept, kDead };

// Limit on the comparisons of one box. If a box has more, boxes are decided by rank instead.
constexpr uint32_t kMostComparisons = 256;

// The state of n boxes that a block, or all blocks of a launch, share. R is the type of a rank.
template <class T, class R>
struct GreedyNms {
  Box<T>* boxes;          // [n] sorted by bucket, the large boxes at the end
  R* ranks;               // [n] rank of each of `boxes`
  R* bucket_end;          // [buckets] end of each bucket in `boxes`, once all boxes are inserted
  uint32_t* best_better;  // [n] by rank: ~(best rank that suppresses this box); 0: none seen
  uint8_t* verdicts;      // [n] by rank: Verdict
  uint32_t n, buckets;    // `buckets` is a power of two

  __device__ uint32_t bucketed() const { return bucket_end[buckets - 1]; }
  // Other threads read and write verdicts at the same time.
  __device__ uint8_t verdict(uint32_t rank) const { return peek(verdicts + rank); }
  __device__ void decide(uint32_t rank, Verdict verdict) const {
    publish(verdicts + rank, uint8_t(verdict));
  }
};

// `Source` provides the boxes: box(i), rank(i) and class id(i) of item i < n, item(rank), and
// classes(), which tells whether there is more than one class. Items may be in any order. It also
// compares boxes: may_suppress(decision, a, b, area of b) is a cheap test, and suppresses(decision,
// a, index of a, b, index of b) decides (nms_pairs.cuh). index(rank) is where a box is in the
// input.

// Counts item i in the histogram, or inserts it. Inserting increments the same counters, which hold
// the prefix sum by then, so each bucket's begin moves to its end. A box that must be compared with
// all boxes counts as `large`.
template <class Source, class T, class R>
__device__ void count_or_insert(const Source& source, const GreedyNms<T, R>& nms,
                                const HashGrid<T>& grid, uint32_t i, bool inserting,
                                uint32_t& large) {
  const uint32_t rank = source.rank(i);
  if (nms.verdicts[rank] != kUndecided) return;
  const Box<T> box = source.box(i);
  Cell cell;
  uint32_t place;
  if (cell_of(grid, box, cell))
    place = count_one(nms.bucket_end, bucket_of(cell, source.id(i), grid.last));
  else
    place = nms.n - 1 - count_one(&large, 0);
  if (inserting) nms.boxes[place] = box, nms.ranks[place] = R(rank);
}

// A contiguous range of `boxes`, which wraps around from the last box to the first.
struct Run {
  uint32_t begin, length;
};

// The boxes in `columns` buckets, from `bucket` on.
template <class T, class R>
__device__ Run run_of(const GreedyNms<T, R>& nms, uint32_t bucket, uint32_t columns) {
  const uint32_t last = bucket + columns - 1;
  const bool wraps = last >= nms.buckets;
  const uint32_t begin = nms.bucket_end[int32_t(bucket) - 1];
  const uint32_t end = nms.bucket_end[wraps ? last - nms.buckets : last];
  return {begin, end - begin + (wraps ? nms.bucketed() : 0)};
}

// Returns false if the box has too many neighbours to compare.
template <class Source, class T, class R>
__device__ bool compare_around(const Source& source, const GreedyNms<T, R>& nms,
                               const HashGrid<T>& grid, const NmsDecision<T>& decision,
                               uint32_t place, uint32_t large) {
  const Box<T> box = nms.boxes[place];
  const uint32_t rank = nms.ranks[place], count = nms.bucketed();
  const int64_t id = source.classes() ? source.id(source.item(rank)) : 0;
  Run row{0, 0}, next{0, 0};
  Cell cell;
  if (cell_of(grid, box, cell)) {
    row = run_of(nms, bucket_of(cell, id, grid.last),
                 last_cell(box.x1 - grid.x0, box.width(), grid, grid.per_x) - cell.x + 1);
    row = {place + 1, row.length - (place + 1 - row.begin)};
    if (last_cell(box.y1 - grid.y0, box.height(), grid, grid.per_y) > cell.y) {
      Cell low{0, cell.y + 1};
      const int32_t columns =
          cells_near(box.x1 - grid.x0, box.width(), grid.widest, grid, grid.per_x, low.x);
      next = run_of(nms, bucket_of(low, id, grid.last), columns);
    }
  }
  const uint32_t around = row.length + next.length, total = around + large;
  if (total > kMostComparisons) return false;

  const uint32_t to_next = next.begin - row.length, to_large = nms.n - total;
  const T area = box.area();
  uint32_t best = rank;
  // no early exit, so that the lanes of a warp stay together
  for (uint32_t t = 0; t < total; ++t) {
    uint32_t at = t + (t < row.length ? row.begin : to_next);
    at = at >= count ? at - count : at;
    at = t < around ? at : t + to_large;
    const Box<T> other = nms.boxes[at];
    if (source.may_suppress(decision, other, box, area) &&
        source.suppresses(decision, other, source.index(nms.ranks[at]), box, source.index(rank))) {
      const uint32_t theirs = nms.ranks[at];
      const bool same = !source.classes() || source.id(source.item(theirs)) == id;
      if (same && theirs < best) best = theirs;
      if (same && theirs > rank && peek(nms.best_better + theirs) < ~rank)
        atomicMax(nms.best_better + theirs, ~rank);
    }
  }
  if (best < rank) atomicMax(nms.best_better + rank, ~best);
  return true;
}

// The boxes that may suppress one box: those near it in three rows, and the large boxes.
constexpr int kRows = 3;
template <class T>
struct Search {
  Box<T> box;
  int64_t id;
  uint32_t rank, large;
  Run rows[kRows];

  template <class Source, class R>
  __device__ Search(const Source& source, const GreedyNms<T, R>& nms, const HashGrid<T>& grid,
                    uint32_t rank, uint32_t large)
      : box(source.box(source.item(rank))),
        id(source.classes() ? source.id(source.item(rank)) : 0),
        rank(rank),
        large(large) {
    Cell low;
    const bool in_grid = cell_of(grid, box, low);
    int32_t columns = 1, count = 0;
    if (in_grid) {
      columns = cells_near(box.x1 - grid.x0, box.width(), grid.widest, grid, grid.per_x, low.x);
      count = cells_near(box.y1 - grid.y0, box.height(), grid.tallest, grid, grid.per_y, low.y);
    }
    for (int k = 0; k < kRows; ++k) {
      rows[k] = run_of(nms, bucket_of({low.x, low.y + k}, id, grid.last), columns);
      if (k >= count) rows[k].length = 0;
    }
    if (!in_grid) rows[0] = {0, nms.bucketed()};
  }
  __device__ uint32_t candidates() const {
    return rows[0].length + rows[1].length + rows[2].length + large;
  }
  // The place of candidate t. This uses selects instead of a loop over the rows, because an index
  // not known at compile time would move `rows` to local memory.
  __device__ uint32_t place(uint32_t t, uint32_t n, uint32_t bucketed) const {
    const uint32_t second = rows[0].length, third = second + rows[1].length;
    const uint32_t to_large = third + rows[2].length;
    if (t >= to_large) return n - large + (t - to_large);
    const uint32_t at = t + (t < second  ? rows[0].begin
                             : t < third ? rows[1].begin - second
                                         : rows[2].begin - third);
    return at >= bucketed ? at - bucketed : at;
  }
};

// The better boxes that a box waits for. Its own rank stands for none.
struct Waiting {
  uint32_t first, second;
  bool more;  // there are more than two, or nobody has searched

  // Returns false if there is no room for another box.
  __device__ bool add(uint32_t better, uint32_t none) {
    if (better == first || better == second) return true;  // two rows may hash to the same buckets
    if (first == none)
      first = better;
    else if (second == none)
      second = better;
    else
      more = true;
    return !more;
  }
};

// All lanes of a warp search for the undecided or kept boxes that suppress one box. The search
// stops at the first kept box, or at the third undecided one.
template <class Source, class T, class R>
__device__ Verdict search_together(const Source& source, const GreedyNms<T, R>& nms,
                                   const NmsDecision<T>& decision, const Search<T>& search,
                                   Waiting& waiting) {
  const uint32_t lane = threadIdx.x % 32, total = search.candidates(), bucketed = nms.bucketed();
  waiting = {search.rank, search.rank, false};
  for (uint32_t from = 0; from < total; from += 32) {
    uint8_t verdict = kDead;
    uint32_t candidate = search.rank;
    if (from + lane < total) {
      const uint32_t place = search.place(from + lane, nms.n, bucketed);
      candidate = nms.ranks[place];
      if (candidate < search.rank &&
          source.suppresses(decision, nms.boxes[place], source.index(candidate), search.box,
                            source.index(search.rank)) &&
          (!source.classes() || source.id(source.item(candidate)) == search.id))
        verdict = nms.verdict(candidate);
    }
    // // from here on all lanes do the same
    if (__any_sync(kAllLanes, verdict == kKept)) return kDead;
    unsigned votes = __ballot_sync(kAllLanes, verdict == kUndecided);
    while (votes) {
      const uint32_t next = __shfl_sync(kAllLanes, candidate, __ffs(int(votes)) - 1);
      votes &= votes - 1;
      if (!waiting.add(next, search.rank)) return kUndecided;
    }
  }
  return waiting.first == search.rank ? kKept : kUndecided;
}

// The verdict of a box, given the boxes it waits for. It is also undecided if the box must search
// again.
template <class T, class R>
__device__ Verdict verdict_by(const GreedyNms<T, R>& nms, uint32_t rank, const Waiting& waiting,
                              bool& search_again) {
  const uint8_t first = nms.verdict(waiting.first);
  const uint8_t second = waiting.second == rank ? uint8_t(kDead) : nms.verdict(waiting.second);
  if (first == kKept || second == kKept) return kDead;
  if (first != kDead || second != kDead) return kUndecided;
  search_again = waiting.more;
  return waiting.more ? kUndecided : kKept;
}

// Decides one tile: all threads of a block call this, and each has the box of rank first +
// threadIdx.x. The better boxes are decided already, or other blocks are deciding them. compared:
// best_better is filled.
template <class Source, class T, class R>
__device__ void decide_tile(const Source& source, const GreedyNms<T, R>& nms,
                            const HashGrid<T>& grid, const NmsDecision<T>& decision, uint32_t large,
                            bool compared, uint32_t first) {
  const uint32_t rank = first + threadIdx.x < nms.n ? first + threadIdx.x : nms.n - 1;
  bool open = first + threadIdx.x < nms.n && nms.verdict(rank) == kUndecided;
  bool searching = !compared;
  Waiting waiting{rank, rank, true};
  if (compared) {
    const uint32_t noted = nms.best_better[rank];
    waiting.first = ~noted;
    if (open && noted == 0) nms.decide(rank, kKept), open = false;
  }
  while (__syncthreads_or(open)) {
    Verdict verdict = kUndecided;
    if (open && !searching) verdict = verdict_by(nms, rank, waiting, searching);
    unsigned helped = __ballot_sync(kAllLanes, open && searching);
    while (helped) {
      const int lane = __ffs(int(helped)) - 1;
      helped &= helped - 1;
      const Search<T> theirs(source, nms, grid, __shfl_sync(kAllLanes, rank, lane), large);
      Waiting found;
      const Verdict result = search_together(source, nms, decision, theirs, found);
      if (int(threadIdx.x % 32) == lane) verdict = result, waiting = found, searching = false;
    }
    if (open && verdict != kUndecided) nms.decide(rank, verdict), open = false;
  }
}

// The whole algorithm in one block. The verdicts are initialized before the call. Stops after the
// tile in which the number of kept boxes reaches `most`, and returns how many ranks are decided.
// bucket_end - kBucketPadding must be aligned to 16 bytes.
template <class Source, class T, class R>
__device__ uint32_t greedy_nms(const Source& source, const GreedyNms<T, R>& nms,
                               const HashGrid<T>& grid, const NmsDecision<T>& decision,
                               uint32_t most) {
  __shared__ uint32_t large[2];  // how many are counted, how many inserted
  const uint32_t n = nms.n;
  constexpr int kWide = 16 / sizeof(R);
  if (threadIdx.x < 2) large[threadIdx.x] = 0;
  for (uint32_t b = threadIdx.x * kWide; b < bucket_entries(nms.buckets); b += blockDim.x * kWide)
    store_wide(nms.bucket_end - kBucketPadding + b, Wide<R, kWide>{});
  for (uint32_t r = threadIdx.x; r < n; r += blockDim.x) nms.best_better[r] = 0;
  __syncthreads();
  for (int inserting = 0; inserting < 2; ++inserting) {
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
      count_or_insert(source, nms, grid, i, inserting, large[inserting]);
    __syncthreads();
    if (!inserting) exclusive_scan(nms.bucket_end, nms.buckets);
  }
  bool few = true;
  for (uint32_t place = threadIdx.x; place < n; place += blockDim.x)
    if (place < nms.bucketed() || place >= n - large[1])
      few &= compare_around(source, nms, grid, decision, place, large[1]);
  const bool compared = __syncthreads_and(few);
  uint32_t decided = 0, kept = 0;
  while (decided < n && kept < most) {
    decide_tile(source, nms, grid, decision, large[1], compared, decided);
    const uint32_t r = decided + threadIdx.x;
    if (decided + blockDim.x < n)  // not needed after the last tile
      kept += __syncthreads_count(r < n && nms.verdicts[r] == kKept);
    decided += blockDim.x;
  }
  return decided < n ? decided : n;
}

}  // namespace detcore
