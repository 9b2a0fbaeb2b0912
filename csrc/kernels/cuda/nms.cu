// Boxes in score order are taken in chunks of 1,024, so that memory stays O(n). A chunk is resolved
// from a bit matrix of its own pairs, 64 boxes a word, by one warp that walks the rows; then every
// later box, one a thread, is struck out if a box kept in the chunk suppresses it.
#include "detcore/nms.h"

#include "launch.cuh"

namespace detcore {
namespace {

constexpr int kChunk = 1024;
constexpr int kWord = 64;
constexpr int kWords = kChunk / kWord;
constexpr int kThreads = 256;
constexpr int kCompactThreads = 1024;

template <class T>
struct Ranked {
  Box<T>* boxes;       // [n] by score
  const int64_t* ids;  // [n] by score, or null
  uint8_t* alive;      // [n] by score
  uint64_t* mask;      // [kChunk, kWords]: bit j of row i: i suppresses j
  int64_t n;
  T below;  // IoU > threshold just when IoU > below, the largest T not above it

  __device__ bool suppresses(const Box<T>& a, int64_t ia, const Box<T>& b, int64_t ib) const {
    if (ids && ids[ia] != ids[ib]) return false;
    const T inter = intersection(a, b);
    return inter / (a.area() + b.area() - inter) > below;
  }
};

template <class S, class ScoreS>
__global__ void rank_kernel(NmsParams p, Ranked<arithmetic_t<S>> ranked, int64_t* ids) {
  for (int64_t r = global_thread(); r < p.n; r += all_threads()) {
    const int64_t i = p.order[r];
    const auto b = load_box(static_cast<const S*>(p.boxes) + 4 * i);
    const auto score = widen(static_cast<const ScoreS*>(p.scores)[i]);
    ranked.boxes[r] = b;
    ranked.alive[r] = !has_nan(b) && score == score;
    if (p.ids) ids[r] = p.ids[i];
  }
}

// Block (x): row words blockIdx / kWords, column word blockIdx % kWords; a thread a row.
template <class T>
__global__ void mask_kernel(Ranked<T> ranked, int64_t first) {
  __shared__ Box<T> columns[kWord];
  const int row_word = blockIdx.x / kWords, column_word = blockIdx.x % kWords;
  const int row = row_word * kWord + threadIdx.x;
  const int64_t i = first + row, j0 = first + column_word * kWord;
  if (j0 + threadIdx.x < ranked.n) columns[threadIdx.x] = ranked.boxes[j0 + threadIdx.x];
  __syncthreads();
  if (i >= ranked.n) return;
  uint64_t bits = 0;
  if (column_word >= row_word) {  // only later boxes can be suppressed
    const Box<T> own = ranked.boxes[i];
    for (int k = 0; k < kWord; ++k)
      if (j0 + k > i && j0 + k < ranked.n && ranked.suppresses(own, i, columns[k], j0 + k))
        bits |= uint64_t(1) << k;
  }
  ranked.mask[row * kWords + column_word] = bits;
}

// One warp: lane w < kWords holds the verdicts of word w.
template <class T>
__global__ void resolve_kernel(Ranked<T> ranked, int64_t first) {
  const int lane = threadIdx.x;
  const int count = ranked.n - first < kChunk ? int(ranked.n - first) : kChunk;
  uint64_t dead = ~uint64_t(0);
  if (lane < kWords)
    for (int k = 0; k < kWord; ++k)
      if (lane * kWord + k < count && ranked.alive[first + lane * kWord + k])
        dead &= ~(uint64_t(1) << k);
  for (int row = 0; row < count; ++row) {
    const uint64_t word = __shfl_sync(0xffffffffu, dead, row / kWord);
    if (word >> (row % kWord) & 1) continue;
    if (lane < kWords) dead |= ranked.mask[row * kWords + lane];
  }
  if (lane < kWords)
    for (int k = 0; k < kWord; ++k)
      if (lane * kWord + k < count) ranked.alive[first + lane * kWord + k] = !(dead >> k & 1);
}

template <class T>
__global__ void strike_kernel(Ranked<T> ranked, int64_t first) {
  __shared__ Box<T> kept[kThreads];
  __shared__ uint8_t is_kept[kThreads];
  const int64_t later = first + kChunk;
  // all threads of a block stay to load tiles, also those past the end
  for (int64_t base = later + int64_t(blockIdx.x) * kThreads; base < ranked.n;
       base += int64_t(gridDim.x) * kThreads) {
    const int64_t j = base + threadIdx.x;
    bool alive = j < ranked.n && ranked.alive[j];
    const Box<T> own = ranked.boxes[j < ranked.n ? j : ranked.n - 1];
    for (int64_t tile = first; tile < later; tile += kThreads) {
      __syncthreads();
      kept[threadIdx.x] = ranked.boxes[tile + threadIdx.x];
      is_kept[threadIdx.x] = ranked.alive[tile + threadIdx.x];
      __syncthreads();
      for (int k = 0; k < kThreads && alive; ++k)
        if (is_kept[k] && ranked.suppresses(kept[k], tile + k, own, j)) alive = false;
    }
    if (j < ranked.n) ranked.alive[j] = alive;
  }
}

// One block: the alive ranks' indices, in order.
__global__ void compact_kernel(NmsParams p, const uint8_t* alive) {
  __shared__ int warp_count[kCompactThreads / 32];
  int64_t written = 0;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t base = 0; base < p.n; base += kCompactThreads) {
    const int64_t r = base + threadIdx.x;
    const bool keep = r < p.n && alive[r];
    const unsigned votes = __ballot_sync(0xffffffffu, keep);
    if (lane == 0) warp_count[warp] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1u << lane) - 1)), total = 0;
    for (int w = 0; w < kCompactThreads / 32; ++w) {
      if (w < warp) before += warp_count[w];
      total += warp_count[w];
    }
    if (keep) p.keep[written + before] = p.order[r];
    written += total;
    __syncthreads();
  }
  if (threadIdx.x == 0) *p.count = written;
}

// The largest T not above the threshold.
template <class T>
T at_most_threshold(double threshold) {
  T below = T(threshold);
  return double(below) > threshold ? T(::nextafterf(float(below), 0.0f)) : below;
}

size_t round_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

struct Workspace {
  size_t boxes, ids, alive, mask, bytes;
  explicit Workspace(const NmsParams& p) {
    boxes = 0;
    ids = boxes + round_up(p.n * 4 * (p.boxes_dtype == DType::f64 ? 8 : 4));
    alive = ids + (p.ids ? round_up(p.n * 8) : 0);
    mask = alive + round_up(p.n);
    bytes = mask + size_t(kChunk) * kWords * sizeof(uint64_t);
  }
};

template <class S, class ScoreS>
Status run(const NmsParams& p, Stream stream) {
  using T = arithmetic_t<S>;
  const Workspace at(p);
  char* base = static_cast<char*>(p.workspace);
  int64_t* ids = p.ids ? reinterpret_cast<int64_t*>(base + at.ids) : nullptr;
  const Ranked<T> ranked{
      reinterpret_cast<Box<T>*>(base + at.boxes),  ids, reinterpret_cast<uint8_t*>(base + at.alive),
      reinterpret_cast<uint64_t*>(base + at.mask), p.n, at_most_threshold<T>(p.iou_threshold)};
  Status status =
      launch(rank_kernel<S, ScoreS>, {blocks_for(p.n, kThreads), kThreads}, stream, p, ranked, ids);
  for (int64_t first = 0; status && first < p.n; first += kChunk) {
    status = launch(mask_kernel<T>, {kWords * kWords, kWord}, stream, ranked, first);
    if (status) status = launch(resolve_kernel<T>, {1, 32}, stream, ranked, first);
    if (status)
      status = launch(strike_kernel<T>, {blocks_for(p.n - first - kChunk, kThreads), kThreads},
                      stream, ranked, first);
  }
  if (!status) return status;
  const uint8_t* alive = ranked.alive;
  return launch(compact_kernel, {1, kCompactThreads}, stream, p, alive);
}

}  // namespace

size_t nms_workspace_cuda(const NmsParams& p) { return Workspace(p).bytes; }

Status nms_cuda(const NmsParams& p, Stream stream) {
  return with_storage(p.boxes_dtype, [&](auto storage) {
    return with_storage(p.scores_dtype, [&](auto score_storage) {
      return run<decltype(storage), decltype(score_storage)>(p, stream);
    });
  });
}

}  // namespace detcore
