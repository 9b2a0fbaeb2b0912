// nms and batched_nms: up to a thousand boxes or two go to one block, in one launch: it gathers
// them by rank, inserts them into a grid in shared memory, decides tile after tile and writes what
// is kept. More boxes take the same steps as a launch each: gather, count (a histogram of the
// grid's buckets), prefix sum, insert, decide, compact. Decisions there cross blocks: a block takes
// the next tile of ranks from a counter, so that a block with better boxes has always started, and
// what it waits for is on its way.
#include "detcore/nms.h"

#include "greedy_nms.cuh"
#include "launch.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

// One block's boxes are in its shared memory. Of one class it takes fewer, for more of them
// overlap.
constexpr int64_t kMostOneClass = 1024;     // boxes
constexpr size_t kMostBoxBytes = 32 << 10;  // of several classes
constexpr uint32_t kMostBuckets = 4096;     // of one block
constexpr int64_t kMostBoxes = 0x7fffffff;  // ranks are counted in 32 bits
constexpr int kThreads = 256;
template <class T>
constexpr int kOneBlock = sizeof(T) == 8 ? 512 : 1024;  // threads, so that registers suffice
constexpr int kBucketsPerThread = 8;

template <class T>
struct Scratch {
  Box<T>* boxes;           // [n] by rank
  int64_t* ids;            // [n] by rank, or null
  uint8_t* verdicts;       // [n] by rank
  uint32_t* bucket_ranks;  // [n] one bucket after the other
  // zero at first:
  uint32_t* bucket_start;  // [bucket_start_entries(buckets)]
  uint32_t* totals;  // [buckets / (kThreads * kBucketsPerThread) + 1] boxes of a block, plus one
  uint32_t* kept;    // [n / kThreads + 1] of a tile
  uint32_t* large;   // [2] counted, and inserted
  uint32_t* ticket;  // [2] of the prefix sum and of `decide`
  uint32_t n, buckets;

  __device__ RankedBoxes<T, uint32_t> ranked() const {
    return {boxes, ids, verdicts, bucket_ranks, bucket_start, n, buckets};
  }
};

// NaN is all that is asked of a score: not worth a kernel per dtype.
__device__ bool score_is_nan(const NmsParams& p, int64_t i) {
  const auto nan = [](auto x) { return x != x; };
  if (p.scores_dtype == DType::f32) return nan(static_cast<const float*>(p.scores)[i]);
  if (p.scores_dtype == DType::f64) return nan(static_cast<const double*>(p.scores)[i]);
  if (p.scores_dtype == DType::f16) return nan(widen(static_cast<const __half*>(p.scores)[i]));
  return nan(widen(static_cast<const __nv_bfloat16*>(p.scores)[i]));
}

// The box of a rank, and its verdict where nothing needs to be compared.
template <class S>
__device__ Box<arithmetic_t<S>> gather(const NmsParams& p, int64_t rank, uint8_t& verdict) {
  const int64_t i = p.order[rank];
  const auto box = load_box(static_cast<const S*>(p.boxes) + 4 * i);
  verdict = has_nan(box) || score_is_nan(p, i) ? kDead : overlaps_nothing(box) ? kKept : kUndecided;
  return box;
}

// --- one block -----------------------------------------------------------------------------------

// Shared memory: boxes, bucket_start, bucket_ranks, verdicts.
template <class S, int threads>
__global__ __launch_bounds__(threads, 1) void block_kernel(NmsParams p,
                                                           Scratch<arithmetic_t<S>> scratch,
                                                           NmsDecision<arithmetic_t<S>> decision) {
  using T = arithmetic_t<S>;
  const uint32_t n = uint32_t(p.n), buckets = scratch.buckets;
  unsigned char* shared = dynamic_shared<unsigned char>();
  Box<T>* boxes = reinterpret_cast<Box<T>*>(shared);
  uint16_t* bucket_start = reinterpret_cast<uint16_t*>(boxes + n);
  uint16_t* bucket_ranks = bucket_start + bucket_start_entries(buckets);
  uint8_t* verdicts = reinterpret_cast<uint8_t*>(bucket_ranks + n);

  for (uint32_t r = threadIdx.x; r < n; r += blockDim.x) {
    boxes[r] = gather<S>(p, r, verdicts[r]);
    if (p.ids) scratch.ids[r] = p.ids[p.order[r]];
  }
  __syncthreads();
  const int64_t* ids = p.ids ? scratch.ids : nullptr;
  const RankedBoxes<T, uint16_t> ranked{boxes,        ids, verdicts, bucket_ranks,
                                        bucket_start, n,   buckets};
  greedy_nms(ranked, decision, n);
  uint32_t written = 0, kept;
  for (uint32_t first = 0; first < n; first += blockDim.x) {
    const uint32_t r = first + threadIdx.x;
    const bool keep = r < n && verdicts[r] == kKept;
    const uint32_t at = exclusive_count(keep, kept);
    if (keep) p.keep[written + at] = p.order[r];
    written += kept;
  }
  if (threadIdx.x == 0) *p.count = written;
}

// --- many blocks ---------------------------------------------------------------------------------

template <class S>
__global__ void gather_kernel(NmsParams p, Scratch<arithmetic_t<S>> scratch) {
  for (int64_t r = global_thread(); r < p.n; r += all_threads()) {
    scratch.boxes[r] = gather<S>(p, r, scratch.verdicts[r]);
    if (p.ids) scratch.ids[r] = p.ids[p.order[r]];
  }
}

// Counts the boxes of each bucket; then, launched once more, inserts them.
template <class T, bool inserting>
__global__ void bucket_kernel(Scratch<T> scratch, T below) {
  const HashGrid<T> grid = make_grid(scratch.boxes, scratch.n, below, scratch.buckets);
  const RankedBoxes<T, uint32_t> ranked = scratch.ranked();
  for (int64_t r = global_thread(); r < scratch.n; r += all_threads())
    count_or_insert(ranked, grid, uint32_t(r), inserting, scratch.large[inserting]);
}

// The prefix sum of the buckets' counts. A block adds up what the blocks before it publish: they
// have started.
template <class T>
__global__ void prefix_sum_kernel(Scratch<T> scratch) {
  __shared__ uint32_t mine, before;
  if (threadIdx.x == 0) mine = atomicAdd(&scratch.ticket[0], 1u), before = 0;
  __syncthreads();
  const uint32_t first = (mine * kThreads + threadIdx.x) * kBucketsPerThread;
  uint32_t* counts = scratch.bucket_start + 1 + first;
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

template <class T>
__global__ void decide_kernel(Scratch<T> scratch, NmsDecision<T> decision) {
  __shared__ uint32_t tile;
  if (threadIdx.x == 0) tile = atomicAdd(&scratch.ticket[1], 1u);
  const HashGrid<T> grid = make_grid(scratch.boxes, scratch.n, decision.below, scratch.buckets);
  decide_tile(BucketedBoxes<T, uint32_t>(scratch.ranked(), *scratch.large), grid, decision,
              tile * kThreads);
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

// Four per box, as far as they are counted in 32 bits or fit shared memory.
uint32_t buckets_for(int64_t boxes, uint32_t most) {
  uint32_t buckets = kLeastBuckets;
  while (buckets < most && buckets < 4 * boxes) buckets *= 2;
  return buckets;
}

struct Workspace {
  bool one_block;
  uint32_t buckets;
  int tiles, parts;  // blocks that decide, and that sum up
  size_t boxes, ids, verdicts, bucket_ranks, zero, totals, kept, counters, bytes;

  explicit Workspace(const NmsParams& p) {
    const size_t box = p.boxes_dtype == DType::f64 ? sizeof(Box<double>) : sizeof(Box<float>);
    one_block = p.n <= kMostOneClass || (p.ids && p.n * box <= kMostBoxBytes);
    buckets = buckets_for(p.n, one_block ? kMostBuckets : 1u << 30);
    tiles = int((p.n + kThreads - 1) / kThreads);
    parts = int((buckets + kThreads * kBucketsPerThread - 1) / (kThreads * kBucketsPerThread));
    bytes = 0;
    boxes = take(one_block ? 0 : p.n * box);
    ids = take(p.ids ? p.n * sizeof(int64_t) : 0);
    verdicts = take(one_block ? 0 : p.n);
    bucket_ranks = take(one_block ? 0 : p.n * sizeof(uint32_t));
    zero = bytes;
    take(one_block ? 0 : bucket_start_entries(buckets) * sizeof(uint32_t));
    totals = take(one_block ? 0 : parts * sizeof(uint32_t));
    kept = take(one_block ? 0 : tiles * sizeof(uint32_t));
    counters = take(one_block ? 0 : 4 * sizeof(uint32_t));
  }
  template <class T>
  Scratch<T> scratch(const NmsParams& p) const {
    const auto at = [&](size_t offset) { return static_cast<char*>(p.workspace) + offset; };
    const auto words = [&](size_t offset) { return reinterpret_cast<uint32_t*>(at(offset)); };
    return {reinterpret_cast<Box<T>*>(at(boxes)),
            p.ids ? reinterpret_cast<int64_t*>(at(ids)) : nullptr,
            reinterpret_cast<uint8_t*>(at(verdicts)),
            words(bucket_ranks),
            words(zero),
            words(totals),
            words(kept),
            words(counters),
            words(counters) + 2,
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

template <class S>
Status run_one_block(const NmsParams& p, const Workspace& at, Stream stream) {
  using T = arithmetic_t<S>;
  const int threads = p.n >= kOneBlock<T> ? kOneBlock<T> : int((p.n + 31) / 32 * 32);
  const size_t shared = p.n * sizeof(Box<T>) + bucket_start_entries(at.buckets) * sizeof(uint16_t) +
                        p.n * (sizeof(uint16_t) + sizeof(uint8_t));
  return launch(block_kernel<S, kOneBlock<T>>, {1, threads, shared}, stream, p, at.scratch<T>(p),
                NmsDecision<T>(p.iou_threshold));
}

template <class S>
Status run(const NmsParams& p, Stream stream) {
  using T = arithmetic_t<S>;
  const Workspace at(p);
  if (at.one_block) return run_one_block<S>(p, at, stream);
  const Scratch<T> scratch = at.scratch<T>(p);
  const NmsDecision<T> decision(p.iou_threshold);
  const T below = decision.below;
  const LaunchShape each{blocks_for(p.n, kThreads), kThreads};
  // grids are made by each block for itself: not too many of them
  const LaunchShape few{blocks_for(p.n, kThreads) < 1024 ? blocks_for(p.n, kThreads) : 1024,
                        kThreads};
  Status status = clear(scratch.bucket_start, at.bytes - at.zero, stream);
  if (status) status = launch(gather_kernel<S>, each, stream, p, scratch);
  if (status) status = launch(bucket_kernel<T, false>, few, stream, scratch, below);
  if (status) status = launch(prefix_sum_kernel<T>, {at.parts, kThreads}, stream, scratch);
  if (status) status = launch(bucket_kernel<T, true>, few, stream, scratch, below);
  if (status) status = launch(decide_kernel<T>, {at.tiles, kThreads}, stream, scratch, decision);
  if (status) status = launch(compact_kernel<T>, {at.tiles, kThreads}, stream, p, scratch);
  return status;
}

}  // namespace

size_t nms_workspace_cuda(const NmsParams& p) { return Workspace(p).bytes; }

Status nms_cuda(const NmsParams& p, Stream stream) {
  if (p.n == 0) return clear(p.count, sizeof *p.count, stream);
  if (p.n > kMostBoxes) return {"at most 2^31 - 1 boxes"};
  return with_storage(p.boxes_dtype,
                      [&](auto storage) { return run<decltype(storage)>(p, stream); });
}

}  // namespace detcore
