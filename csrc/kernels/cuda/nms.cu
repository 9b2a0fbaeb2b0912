// nms and batched_nms. Up to about two thousand boxes are handled by one block in one launch: it
// sorts them by score and runs greedy_nms() in shared memory. For more boxes each step is a launch:
// count (which also gathers boxes by rank), prefix sum, insert, compare, decide, compact. There,
// blocks wait for the verdicts of other blocks. A block takes its tile of ranks from a counter, so
// the blocks with better boxes have always started, and waiting for them ends.
#include "detcore/nms.h"

#include "block_sort.cuh"
#include "greedy_nms.cuh"
#include "launch.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr size_t kMostBoxBytes = 32 << 10;  // limit of the one-block path, in shared memory
constexpr uint32_t kMostBuckets = 4096;     // limit of the one-block path
constexpr int64_t kMostBoxes = 0x7fffffff;  // ranks are counted in 32 bits
constexpr int kThreads = 256;
constexpr int kBucketsPerThread = 8;

// Threads of the one block; more would lack registers.
template <class Pairs>
constexpr int kOneBlock = 1024;
template <>
constexpr int kOneBlock<UprightBoxes<double>> = 512;
template <>
constexpr int kOneBlock<RotatedBoxes<float>> = 512;
template <>
constexpr int kOneBlock<RotatedBoxes<double>> = 256;
template <>
constexpr int kOneBlock<BoxesInSpace<float>> = 512;
template <>
constexpr int kOneBlock<BoxesInSpace<double>> = 256;

// Scores are only tested for NaN, and sorted by one block, so we branch on the dtype instead of
// compiling one kernel per dtype.
__device__ float narrow_score(const NmsParams& p, int64_t i) {
  if (p.scores_dtype == DType::f16) return widen(static_cast<const __half*>(p.scores)[i]);
  if (p.scores_dtype == DType::bf16) return widen(static_cast<const __nv_bfloat16*>(p.scores)[i]);
  return static_cast<const float*>(p.scores)[i];
}
__device__ bool score_is_nan(const NmsParams& p, int64_t i) {
  if (p.scores_dtype == DType::f64) {
    const double score = static_cast<const double*>(p.scores)[i];
    return score != score;
  }
  const float score = narrow_score(p, i);
  return score != score;
}

// The verdict of box i before any comparison.
template <class T>
__device__ Verdict verdict_alone(const NmsParams& p, int64_t i, const Box<T>& box) {
  if (has_nan(box) || score_is_nan(p, i)) return kDead;
  return overlaps_nothing(box) ? kKept : kUndecided;
}

// --- one block -----------------------------------------------------------------------------------

// Items are input indices: boxes are read from the input again (it is in cache) rather than
// gathered by rank.
template <class S, class Pairs>
struct GivenBoxes : Pairs {
  const S* boxes;
  const int64_t* ids;
  const uint16_t *ranks, *indices;  // ranks by index, indices by rank

  __device__ auto box(uint32_t i) const { return load_box(boxes + 4 * i); }
  __device__ uint32_t rank(uint32_t i) const { return ranks[i]; }
  __device__ uint32_t item(uint32_t rank) const { return indices[rank]; }
  __device__ int64_t index(uint32_t rank) const { return indices[rank]; }
  __device__ bool classes() const { return ids != nullptr; }
  __device__ int64_t id(uint32_t i) const { return ids ? ids[i] : 0; }
};

// The shared memory of the one-block path.
template <class T>
struct BlockRoom {
  Box<T>* boxes;  // also used to sort the scores
  uint16_t* bucket_end;
  uint32_t* best_better;
  uint16_t *bucket_ranks, *ranks, *indices;
  uint8_t* verdicts;

  __device__ BlockRoom(uint32_t n, uint32_t buckets)
      : boxes(dynamic_shared<Box<T>>()),
        bucket_end(reinterpret_cast<uint16_t*>(boxes + n) + kBucketPadding),
        best_better(reinterpret_cast<uint32_t*>(bucket_end + buckets)),
        bucket_ranks(reinterpret_cast<uint16_t*>(best_better + n)),
        ranks(bucket_ranks + n),
        indices(ranks + n),
        verdicts(reinterpret_cast<uint8_t*>(indices + n)) {}
  static size_t bytes(size_t n, uint32_t buckets) {
    return n * (sizeof(Box<T>) + sizeof(uint32_t) + 3 * sizeof(uint16_t) + 1) +
           bucket_entries(buckets) * sizeof(uint16_t);
  }
};

// Fills `ranks` and `indices` from the given order, or else by a stable sort.
template <class T>
__device__ void rank_boxes(const NmsParams& p, const BlockRoom<T>& room) {
  const uint32_t n = uint32_t(p.n);
  Item<uint32_t>* items = reinterpret_cast<Item<uint32_t>*>(room.boxes);
  if (!p.order) {
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
      items[i] = {descending_key(narrow_score(p, i)), i};
    __syncthreads();
    items = merge_sort(items, items + n, n);
  }
  for (uint32_t r = threadIdx.x; r < n; r += blockDim.x) {
    const uint32_t i = p.order ? uint32_t(p.order[r]) : items[r].place;
    room.indices[r] = uint16_t(i);
    room.ranks[i] = uint16_t(r);
  }
  __syncthreads();
}

template <class S, class Pairs>
__global__ __launch_bounds__(kOneBlock<Pairs>,
                             1) void block_kernel(NmsParams p, uint32_t buckets,
                                                  NmsDecision<arithmetic_t<S>> decision,
                                                  Pairs pairs) {
  using T = arithmetic_t<S>;
  const uint32_t n = uint32_t(p.n);
  const BlockRoom<T> room(n, buckets);
  rank_boxes(p, room);
  const GivenBoxes<S, Pairs> given{pairs, static_cast<const S*>(p.boxes), p.ids, room.ranks,
                                   room.indices};
  for (uint32_t i = threadIdx.x; i < n; i += blockDim.x)
    room.verdicts[room.ranks[i]] = verdict_alone(p, i, given.box(i));
  const HashGrid<T> grid = make_grid<T>([&](uint32_t i) { return given.box(i); }, n,
                                        grid_threshold(pairs, decision.below), buckets);
  const GreedyNms<T, uint16_t> nms{
      room.boxes, room.bucket_ranks, room.bucket_end, room.best_better, room.verdicts, n, buckets};
  greedy_nms(given, nms, grid, decision, n);
  uint32_t written = 0, kept;
  for (uint32_t first = 0; first < n; first += blockDim.x) {
    const uint32_t r = first + threadIdx.x;
    const bool keep = r < n && room.verdicts[r] == kKept;
    const uint32_t at = exclusive_count(keep, kept);
    if (keep) p.keep[written + at] = room.indices[r];
    written += kept;
  }
  if (threadIdx.x == 0) *p.count = written;
}

// --- many blocks ---------------------------------------------------------------------------------

// Items are ranks.
template <class T, class Pairs>
struct RankedBoxes : Pairs {
  const Box<T>* boxes;
  const int64_t* ids;  // or null
  const int64_t* order;

  __device__ Box<T> box(uint32_t rank) const { return boxes[rank]; }
  __device__ uint32_t rank(uint32_t rank) const { return rank; }
  __device__ uint32_t item(uint32_t rank) const { return rank; }
  __device__ int64_t index(uint32_t rank) const { return order[rank]; }
  __device__ bool classes() const { return ids != nullptr; }
  __device__ int64_t id(uint32_t rank) const { return ids ? ids[rank] : 0; }
};

template <class T>
struct Scratch {
  Box<T>* boxes;           // [n] by rank
  int64_t* ids;            // [n] by rank, or null
  Box<T>* bucket_boxes;    // [n] sorted by bucket
  uint32_t* bucket_ranks;  // [n] sorted by bucket
  uint8_t* verdicts;       // [n] by rank
  HashGrid<T>* grid;       // [1]
  // from here on, arrays are zeroed before the first kernel:
  uint32_t* bucket_end;   // [buckets], after the padding
  uint32_t* best_better;  // [n] by rank
  uint32_t* totals;   // [buckets / (kThreads * kBucketsPerThread) + 1] sum of each block, plus one
  uint32_t* kept;     // [n / kThreads + 1] kept boxes per tile
  uint32_t* large;    // [2] large boxes: counted, inserted
  uint32_t* ticket;   // [2] next block of the prefix sum, next tile of `decide`
  uint32_t* crowded;  // [1] nonzero: some box had too many neighbours to compare
  const int64_t* order;  // [n] index of each rank
  uint32_t n, buckets;

  template <class Pairs = UprightBoxes<T>>
  __device__ RankedBoxes<T, Pairs> source(const Pairs& pairs = {}) const {
    return {pairs, boxes, ids, order};
  }
  __device__ GreedyNms<T, uint32_t> nms() const {
    return {bucket_boxes, bucket_ranks, bucket_end, best_better, verdicts, n, buckets};
  }
};

// below: the threshold that the grid may use.
template <class S>
__global__ void count_kernel(NmsParams p, Scratch<arithmetic_t<S>> scratch, arithmetic_t<S> below) {
  using T = arithmetic_t<S>;
  const auto box_at = [&](int64_t i) { return load_box(static_cast<const S*>(p.boxes) + 4 * i); };
  const HashGrid<T> grid = make_grid<T>(box_at, scratch.n, below, scratch.buckets);
  if (global_thread() == 0) *scratch.grid = grid;
  for (int64_t r = global_thread(); r < p.n; r += all_threads()) {
    const int64_t i = p.order[r];
    const Box<T> box = box_at(i);
    scratch.boxes[r] = box;
    scratch.verdicts[r] = verdict_alone(p, i, box);
    if (p.ids) scratch.ids[r] = p.ids[i];
    count_or_insert(scratch.source(), scratch.nms(), grid, uint32_t(r), false, scratch.large[0]);
  }
}

template <class T>
__global__ void insert_kernel(Scratch<T> scratch) {
  const HashGrid<T> grid = *scratch.grid;
  for (int64_t r = global_thread(); r < scratch.n; r += all_threads())
    count_or_insert(scratch.source(), scratch.nms(), grid, uint32_t(r), true, scratch.large[1]);
}

// The prefix sum of the histogram. Each block adds the totals that the blocks before it publish.
// Those have started already, because block numbers come from a counter.
template <class T>
__global__ void prefix_sum_kernel(Scratch<T> scratch) {
  __shared__ uint32_t mine, before;
  if (threadIdx.x == 0) mine = atomicAdd(&scratch.ticket[0], 1u), before = 0;
  __syncthreads();
  const uint32_t first = (mine * kThreads + threadIdx.x) * kBucketsPerThread;
  uint32_t* counts = scratch.bucket_end + first;
  uint32_t own = 0, total;
  for (uint32_t k = 0; k < kBucketsPerThread; ++k)
    if (first + k < scratch.buckets) own += counts[k];
  uint32_t at = exclusive_sum(own, total);
  if (threadIdx.x == 0) publish(&scratch.totals[mine], total + 1);
  uint32_t others = 0;
  for (uint32_t b = threadIdx.x; b < mine; b += kThreads) {
    uint32_t published;
    do published = peek(&scratch.totals[b]);
    while (published == 0);
    others += published - 1;
  }
  if (others) atomicAdd(&before, others);
  __syncthreads();
  at += before;
  for (uint32_t k = 0; k < kBucketsPerThread; ++k) {
    if (first + k >= scratch.buckets) break;
    const uint32_t count = counts[k];
    counts[k] = at;
    at += count;
  }
}

template <class T, class Pairs>
__global__ void compare_kernel(Scratch<T> scratch, NmsDecision<T> decision, Pairs pairs) {
  const HashGrid<T> grid = *scratch.grid;
  const auto nms = scratch.nms();
  const uint32_t large = scratch.large[1], place = uint32_t(global_thread());
  bool few = true;
  if (place < nms.bucketed() || (place >= nms.n - large && place < nms.n))
    few = compare_around(scratch.source(pairs), nms, grid, decision, place, large);
  if (!__syncthreads_and(few) && threadIdx.x == 0) atomicOr(scratch.crowded, 1u);
}

template <class T, class Pairs>
__global__ void decide_kernel(Scratch<T> scratch, NmsDecision<T> decision, Pairs pairs) {
  __shared__ uint32_t tile;
  if (threadIdx.x == 0) tile = atomicAdd(&scratch.ticket[1], 1u);
  __syncthreads();
  const HashGrid<T> grid = *scratch.grid;
  decide_tile(scratch.source(pairs), scratch.nms(), grid, decision, scratch.large[1],
              *scratch.crowded == 0, tile * kThreads);
  const uint32_t r = tile * kThreads + threadIdx.x;
  const int kept = __syncthreads_count(r < scratch.n && peek(&scratch.verdicts[r]) == kKept);
  if (threadIdx.x == 0) scratch.kept[tile] = uint32_t(kept);
}

template <class T>
__global__ void compact_kernel(NmsParams p, Scratch<T> scratch) {
  __shared__ uint32_t before;
  const uint32_t tile = blockIdx.x, r = tile * kThreads + threadIdx.x;
  if (threadIdx.x == 0) before = 0;
  __syncthreads();
  uint32_t others = 0, kept;
  for (uint32_t t = threadIdx.x; t < tile; t += kThreads) others += scratch.kept[t];
  if (others) atomicAdd(&before, others);
  const bool keep = r < scratch.n && scratch.verdicts[r] == kKept;
  const uint32_t at = exclusive_count(keep, kept);
  if (keep) p.keep[before + at] = p.order[r];
  if (tile == gridDim.x - 1 && threadIdx.x == 0) *p.count = before + kept;
}

// --- the host's side -----------------------------------------------------------------------------

// Four buckets per box, up to `most`.
uint32_t buckets_for(int64_t boxes, uint32_t most) {
  uint32_t buckets = kLeastBuckets;
  while (buckets < most && buckets < 4 * boxes) buckets *= 2;
  return buckets;
}

// True if one block handles all boxes.
bool one_block(const NmsParams& p) {
  const size_t box = p.boxes_dtype == DType::f64 ? sizeof(Box<double>) : sizeof(Box<float>);
  return p.n * box <= kMostBoxBytes;
}

// The workspace of the many-block path: byte offsets of its arrays.
struct Workspace {
  uint32_t buckets;
  int tiles, parts;  // blocks of `decide`, and of the prefix sum
  size_t boxes, ids, bucket_boxes, bucket_ranks, verdicts, grid;
  size_t zero, bucket_end, best_better, totals, kept, counters, bytes;

  explicit Workspace(const NmsParams& p) {
    const bool wide = p.boxes_dtype == DType::f64;
    const size_t box = wide ? sizeof(Box<double>) : sizeof(Box<float>);
    buckets = buckets_for(p.n, 1u << 30);
    tiles = int((p.n + kThreads - 1) / kThreads);
    parts = int((buckets + kThreads * kBucketsPerThread - 1) / (kThreads * kBucketsPerThread));
    bytes = 0;
    boxes = take(p.n * box);
    ids = take(p.ids ? p.n * sizeof(int64_t) : 0);
    bucket_boxes = take(p.n * box);
    bucket_ranks = take(p.n * sizeof(uint32_t));
    verdicts = take(p.n);
    grid = take(wide ? sizeof(HashGrid<double>) : sizeof(HashGrid<float>));
    zero = bytes;
    bucket_end = take(bucket_entries(buckets) * sizeof(uint32_t));
    best_better = take(p.n * sizeof(uint32_t));
    totals = take(parts * sizeof(uint32_t));
    kept = take(tiles * sizeof(uint32_t));
    counters = take(5 * sizeof(uint32_t));
  }
  template <class T>
  Scratch<T> scratch(const NmsParams& p) const {
    const auto at = [&](size_t offset) { return static_cast<char*>(p.workspace) + offset; };
    const auto words = [&](size_t offset) { return reinterpret_cast<uint32_t*>(at(offset)); };
    return {reinterpret_cast<Box<T>*>(at(boxes)),
            p.ids ? reinterpret_cast<int64_t*>(at(ids)) : nullptr,
            reinterpret_cast<Box<T>*>(at(bucket_boxes)),
            words(bucket_ranks),
            reinterpret_cast<uint8_t*>(at(verdicts)),
            reinterpret_cast<HashGrid<T>*>(at(grid)),
            words(bucket_end) + kBucketPadding,
            words(best_better),
            words(totals),
            words(kept),
            words(counters),
            words(counters) + 2,
            words(counters) + 4,
            p.order,
            uint32_t(p.n),
            buckets};
  }

 private:
  size_t take(size_t more) {
    const size_t at = bytes;
    bytes += (more + 63) / 64 * 64;
    return at;
  }
};

template <class S, class Pairs>
Status run_one_block(const NmsParams& p, const Pairs& pairs, Stream stream) {
  using T = arithmetic_t<S>;
  const uint32_t buckets = buckets_for(p.n, kMostBuckets);
  const int most = kOneBlock<Pairs>, threads = p.n >= most ? most : int((p.n + 31) / 32 * 32);
  return launch(block_kernel<S, Pairs>, {1, threads, BlockRoom<T>::bytes(size_t(p.n), buckets)},
                stream, p, buckets, NmsDecision<T>(p.iou_threshold), pairs);
}

template <class S, class Pairs>
Status run_many_blocks(const NmsParams& p, const Pairs& pairs, Stream stream) {
  using T = arithmetic_t<S>;
  const Workspace at(p);
  const Scratch<T> scratch = at.scratch<T>(p);
  const NmsDecision<T> decision(p.iou_threshold);
  const LaunchShape each{blocks_for(p.n, kThreads), kThreads};
  // each block of the count kernel computes the grid itself, so we limit their number
  const LaunchShape few{each.blocks < 1024 ? each.blocks : 1024, kThreads};
  Status status = clear(static_cast<char*>(p.workspace) + at.zero, at.bytes - at.zero, stream);
  if (status)
    status = launch(count_kernel<S>, few, stream, p, scratch, p.rotated ? T(0) : decision.below);
  if (status) status = launch(prefix_sum_kernel<T>, {at.parts, kThreads}, stream, scratch);
  if (status) status = launch(insert_kernel<T>, each, stream, scratch);
  if (status) status = launch(compare_kernel<T, Pairs>, each, stream, scratch, decision, pairs);
  if (status)
    status =
        launch(decide_kernel<T, Pairs>, {at.tiles, kThreads}, stream, scratch, decision, pairs);
  if (status) status = launch(compact_kernel<T>, {at.tiles, kThreads}, stream, p, scratch);
  return status;
}

template <class S, class Pairs>
Status run(const NmsParams& p, const Pairs& pairs, Stream stream) {
  return one_block(p) ? run_one_block<S>(p, pairs, stream) : run_many_blocks<S>(p, pairs, stream);
}

template <class T>
Status run_rotated(const NmsParams& p, Stream stream) {
  if (p.in_space)
    return run<T>(p, BoxesInSpace<T>{{static_cast<const Box3d<T, double>*>(p.rotated)}}, stream);
  return run<T>(p, RotatedBoxes<T>{{static_cast<const RotatedBox<T, double>*>(p.rotated)}}, stream);
}

}  // namespace

size_t nms_workspace_cuda(const NmsParams& p) { return one_block(p) ? 0 : Workspace(p).bytes; }
bool nms_needs_order_cuda(const NmsParams& p) {
  return !one_block(p) || p.scores_dtype == DType::f64;
}

Status nms_cuda(const NmsParams& p, Stream stream) {
  if (p.n == 0) return clear(p.count, sizeof *p.count, stream);
  if (p.n > kMostBoxes) return {"at most 2^31 - 1 boxes"};
  if (!p.order && nms_needs_order_cuda(p)) return {"boxes of this number and dtype need an order"};
  if (p.rotated)
    return p.boxes_dtype == DType::f64 ? run_rotated<double>(p, stream)
                                       : run_rotated<float>(p, stream);
  return with_storage(p.boxes_dtype, [&](auto storage) {
    using S = decltype(storage);
    return run<S>(p, UprightBoxes<arithmetic_t<S>>{}, stream);
  });
}

}  // namespace detcore
