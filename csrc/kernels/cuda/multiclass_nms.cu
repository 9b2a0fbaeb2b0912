// One block per image and class selects the best candidates, sorts them and runs greedy_nms(). Then
// one block per image merges the boxes kept in each class. A block's data is in shared memory if it
// fits, else in the workspace; the code is the same.
#include "detcore/multiclass_nms.h"

#include "block_top_k.cuh"
#include "greedy_nms.cuh"
#include "launch.cuh"
#include "rotated_loads.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;
constexpr size_t kMostShared = 40 << 10;
constexpr int64_t kMostBuckets = 4096;
constexpr int64_t kMostKept = 1 << 30;  // rounding it up to a power of two must fit 32 bits

struct Sizes {
  int64_t keep, keep_room;   // candidates per class; the same, rounded up
  int64_t survivors;         // limit per class
  int64_t result;            // limit per image
  int64_t segments, blocks;  // images x classes; blocks that process them
  int64_t buckets;
  size_t item, box;                // bytes; of a rotated box also those of its measures
  size_t room;                     // bytes for the candidates of one class
  bool keep_shared, merge_shared;  // true if `room`, or an image's result, fits shared memory
  size_t at_survivors, at_counts, at_rooms, at_merged, bytes;

  explicit Sizes(const MulticlassNmsParams& p) {
    const bool wide = p.scores_dtype == DType::f64;
    item = wide ? sizeof(Item<uint64_t>) : sizeof(Item<uint32_t>);
    box = p.boxes_dtype == DType::f64 ? bytes_per_box<double>(p) : bytes_per_box<float>(p);
    keep = lesser(p.n, p.candidates_per_class);
    keep_room = (keep + 3) / 4 * 4;  // aligns each array to 16 bytes
    survivors = lesser(keep, p.max_per_image);
    result = lesser(p.classes * survivors, p.max_per_image);
    segments = keep > 0 ? p.batch * p.classes : 0, blocks = blocks_for(segments, 1);
    buckets = kLeastBuckets;
    while (buckets < keep && buckets < kMostBuckets) buckets *= 2;
    room = size_t(keep_room) * (item + box + 2 * sizeof(uint32_t) + 1) +
           bucket_entries(uint32_t(buckets)) * sizeof(uint32_t);
    room = (room + 63) / 64 * 64;
    keep_shared = room <= kMostShared;
    // twice, because the merge sort alternates between two arrays
    merge_shared = 2 * result * item <= kMostShared;
    bytes = 0;
    at_survivors = take(segments * survivors * item);
    at_counts = take(segments * sizeof(uint32_t));
    at_rooms = take(keep_shared ? 0 : blocks * room);
    at_merged = take(merge_shared ? 0 : p.batch * 2 * result * item);
  }

 private:
  template <class T>
  static size_t bytes_per_box(const MulticlassNmsParams& p) {
    return sizeof(Box<T>) + (p.rotated ? sizeof(RotatedBox<T, double>) : 0);
  }
  static int64_t lesser(int64_t a, int64_t b) { return a < b ? a : b; }
  size_t take(size_t more) {
    const size_t at = bytes;
    bytes += (more + 63) / 64 * 64;
    return at;
  }
};

// The workspace that the kernels share. K is the type of a sort key.
template <class K>
struct Scratch {
  Item<K>* survivors;  // [segments, per_class] place: index of the box
  uint32_t* counts;    // [segments]
  char* rooms;         // [blocks, room] bytes; null: use shared memory
  Item<K>* merged;     // [batch, 2 result]; null: use shared memory
  size_t room;
  uint32_t keep, keep_room, buckets, per_class, result;
};

template <class S>
__device__ const S* element(const void* base, const int64_t* strides, int64_t b, int64_t i,
                            int64_t c) {
  return static_cast<const S*>(base) + b * strides[0] + i * strides[1] + c * strides[2];
}

// The candidates of a class. An item's place is the index of its box.
template <class S, class ScoreS, bool rotated>
struct Candidates {
  using Key = key_t<arithmetic_t<ScoreS>>;
  const S* boxes;
  const ScoreS* scores;
  int64_t box_stride, score_stride;  // from one box to the next
  arithmetic_t<ScoreS> threshold;

  __device__ const S* at(int64_t i) const { return boxes + i * box_stride; }
  __device__ bool operator()(int64_t i, Item<Key>& item) const {
    const auto score = widen(scores[i * score_stride]);
    if (!(score > threshold)) return false;
    item = {descending_key(score), uint32_t(i)};
    if constexpr (!rotated) return !has_nan(load_box_anywhere(at(i)));
    bool finite = true;
    for (int k = 0; k < numbers_of(RotatedKind::image); ++k) {
      const auto v = widen(at(i)[k]);
      finite &= v - v == 0;
    }
    return finite;
  }
};

// The candidates by descending score, for greedy_nms.cuh. Items are ranks.
struct ByRank {
  __device__ uint32_t rank(uint32_t rank) const { return rank; }
  __device__ uint32_t item(uint32_t rank) const { return rank; }
  __device__ int64_t index(uint32_t rank) const { return rank; }
  __device__ bool classes() const { return false; }
  __device__ int64_t id(uint32_t) const { return 0; }
};

template <class S, class ScoreS>
struct UprightCandidates : UprightBoxes<arithmetic_t<S>>, ByRank {
  using Given = Candidates<S, ScoreS, false>;
  const Given& candidates;
  const Item<typename Given::Key>* items;

  // `memory` is where measures of the boxes would be.
  __device__ UprightCandidates(const Given& candidates, const Item<typename Given::Key>* items,
                               void*, uint32_t)
      : candidates(candidates), items(items) {}
  __device__ auto box(uint32_t rank) const {
    return load_box_anywhere(candidates.at(items[rank].place));
  }
};

template <class S, class ScoreS>
struct RotatedCandidates : RotatedBoxes<arithmetic_t<S>>, ByRank {
  using Given = Candidates<S, ScoreS, true>;
  using Measured = RotatedBox<arithmetic_t<S>, double>;

  // All threads of the block measure the boxes.
  __device__ RotatedCandidates(const Given& candidates, const Item<typename Given::Key>* items,
                               void* memory, uint32_t count)
      : RotatedBoxes<arithmetic_t<S>>{{static_cast<Measured*>(memory)}} {
    for (uint32_t r = threadIdx.x; r < count; r += blockDim.x)
      static_cast<Measured*>(memory)[r] = load_rotated(candidates.at(items[r].place), 0);
    __syncthreads();
  }
  __device__ auto box(uint32_t rank) const { return box_around(this->measured[rank]); }
};

// Ranked: UprightCandidates or RotatedCandidates.
template <class S, class ScoreS, class Ranked, class T, class K>
__global__ void select_kernel(MulticlassNmsParams p, Scratch<K> scratch,
                              arithmetic_t<ScoreS> threshold, NmsDecision<T> decision) {
  char* room = scratch.rooms ? scratch.rooms + blockIdx.x * scratch.room : dynamic_shared<char>();
  Box<T>* boxes = reinterpret_cast<Box<T>*>(room);
  Item<K>* items = reinterpret_cast<Item<K>*>(boxes + scratch.keep_room);
  uint32_t* bucket_end = reinterpret_cast<uint32_t*>(items + scratch.keep_room) + kBucketPadding;
  uint32_t* bucket_ranks = bucket_end + scratch.buckets;
  uint32_t* best_better = bucket_ranks + scratch.keep_room;
  // of rotated boxes alone
  auto* measures = reinterpret_cast<RotatedBox<T, double>*>(best_better + scratch.keep_room);
  uint8_t* verdicts = reinterpret_cast<uint8_t*>(measures + (p.rotated ? scratch.keep_room : 0));
  for (int64_t segment = blockIdx.x; segment < p.batch * p.classes; segment += gridDim.x) {
    const int64_t b = segment / p.classes, c = segment % p.classes;
    const typename Ranked::Given candidates{element<S>(p.boxes, p.box_strides, b, 0, c),
                                            element<ScoreS>(p.scores, p.score_strides, b, 0, c),
                                            p.box_strides[1], p.score_strides[1], threshold};
    const uint32_t count = block_top_k<K>(candidates, p.n, scratch.keep, items);
    // the memory of `boxes` is still free: the sort alternates between it and `items`
    const Item<K>* sorted = merge_sort(items, reinterpret_cast<Item<K>*>(boxes), count);
    if (sorted != items)
      for (uint32_t r = threadIdx.x; r < count; r += blockDim.x) items[r] = sorted[r];
    __syncthreads();
    const Ranked ranked(candidates, items, measures, count);
    for (uint32_t r = threadIdx.x; r < count; r += blockDim.x)
      verdicts[r] = overlaps_nothing(ranked.box(r)) ? kKept : kUndecided;
    const GreedyNms<T, uint32_t> nms{boxes,    bucket_ranks, bucket_end,     best_better,
                                     verdicts, count,        scratch.buckets};
    uint32_t decided = 0;
    if (count > 0) {
      const HashGrid<T> grid =
          make_grid<T>([&](uint32_t r) { return ranked.box(r); }, count,
                       grid_threshold(ranked, decision.below), scratch.buckets);
      decided = greedy_nms(ranked, nms, grid, decision, scratch.per_class);
    }
    uint32_t kept = 0, more;
    for (uint32_t first = 0; first < decided; first += blockDim.x) {
      const uint32_t r = first + threadIdx.x;
      const bool keep = r < decided && verdicts[r] == kKept;
      const uint32_t at = kept + exclusive_count(keep, more);
      if (keep && at < scratch.per_class)
        scratch.survivors[segment * scratch.per_class + at] = items[r];
      kept += more;
    }
    if (threadIdx.x == 0)
      scratch.counts[segment] = kept < scratch.per_class ? kept : scratch.per_class;
    __syncthreads();
  }
}

// An image's survivors. An item's place is its slot: sorted by class, then by score.
template <class K>
struct Survivors {
  const Item<K>* items;    // [classes, per_class]
  const uint32_t* counts;  // [classes]
  uint32_t per_class;

  __device__ bool operator()(int64_t slot, Item<K>& item) const {
    if (uint32_t(slot) % per_class >= counts[uint32_t(slot) / per_class]) return false;
    item = {items[slot].key, uint32_t(slot)};
    return true;
  }
};

template <class S, class ScoreS, class K>
__global__ void merge_kernel(MulticlassNmsParams p, Scratch<K> scratch) {
  for (int64_t b = blockIdx.x; b < p.batch; b += gridDim.x) {
    Item<K>* merged =
        scratch.merged ? scratch.merged + b * 2 * scratch.result : dynamic_shared<Item<K>>();
    const Survivors<K> survivors{scratch.survivors + b * p.classes * scratch.per_class,
                                 scratch.counts + b * p.classes, scratch.per_class};
    uint32_t count = 0;
    if (scratch.result > 0) {
      count = block_top_k<K>(survivors, p.classes * scratch.per_class, scratch.result, merged);
      merged = merge_sort(merged, merged + scratch.result, count);
    }
    const int numbers = p.rotated ? numbers_of(RotatedKind::image) : 4;
    S* out_boxes = static_cast<S*>(p.out_boxes) + numbers * b * p.max_per_image;
    ScoreS* out_scores = static_cast<ScoreS*>(p.out_scores) + b * p.max_per_image;
    int64_t* out_labels = p.out_labels + b * p.max_per_image;
    for (int64_t k = threadIdx.x; k < p.max_per_image; k += blockDim.x) {
      const bool here = k < count;
      const uint32_t slot = here ? merged[k].place : 0, c = here ? slot / scratch.per_class : 0;
      const int64_t i = here ? survivors.items[slot].place : 0;
      const S* box = element<S>(p.boxes, p.box_strides, b, i, c);
      for (int number = 0; number < numbers; ++number)
        out_boxes[numbers * k + number] = here ? box[number] : S(0.0f);
      out_scores[k] = here ? *element<ScoreS>(p.scores, p.score_strides, b, i, c) : ScoreS(0.0f);
      out_labels[k] = here ? int64_t(c) : -1;
    }
    if (threadIdx.x == 0) p.out_counts[b] = count;
    __syncthreads();
  }
}

template <class S, class ScoreS, class Ranked>
Status run(const MulticlassNmsParams& p, Stream stream) {
  using T = arithmetic_t<S>;
  using K = key_t<arithmetic_t<ScoreS>>;
  const Sizes size(p);
  if (size.keep > kMostKept || size.result > kMostKept)
    return {"at most 2^30 candidates per class and detections per image"};
  char* base = static_cast<char*>(p.workspace);
  const Scratch<K> scratch{
      reinterpret_cast<Item<K>*>(base + size.at_survivors),
      reinterpret_cast<uint32_t*>(base + size.at_counts),
      size.keep_shared ? nullptr : base + size.at_rooms,
      size.merge_shared ? nullptr : reinterpret_cast<Item<K>*>(base + size.at_merged),
      size.room,
      uint32_t(size.keep),
      uint32_t(size.keep_room),
      uint32_t(size.buckets),
      uint32_t(size.survivors),
      uint32_t(size.result)};
  ScoreS rounded;
  narrow(arithmetic_t<ScoreS>(p.score_threshold), rounded);
  const arithmetic_t<ScoreS> threshold = widen(rounded);
  const NmsDecision<T> decision(p.iou_threshold);
  const size_t select_bytes = size.keep_shared ? size.room : 0;
  Status status =
      launch(select_kernel<S, ScoreS, Ranked, T, K>, {size.blocks, kThreads, select_bytes}, stream,
             p, scratch, threshold, decision);
  if (!status) return status;
  const size_t merge_bytes = size.merge_shared ? 2 * size.result * size.item : 0;
  return launch(merge_kernel<S, ScoreS, K>, {blocks_for(p.batch, 1), kThreads, merge_bytes}, stream,
                p, scratch);
}

}  // namespace

size_t multiclass_nms_workspace_cuda(const MulticlassNmsParams& p) { return Sizes(p).bytes; }

Status multiclass_nms_cuda(const MulticlassNmsParams& p, Stream stream) {
  if (p.n * p.classes > kMostScoresPerImage) return {"at most 2^32 - 1 scores per image"};
  return with_storage(p.scores_dtype, [&](auto score_storage) {
    using ScoreS = decltype(score_storage);
    if (p.rotated)
      return p.boxes_dtype == DType::f64
                 ? run<double, ScoreS, RotatedCandidates<double, ScoreS>>(p, stream)
                 : run<float, ScoreS, RotatedCandidates<float, ScoreS>>(p, stream);
    return with_storage(p.boxes_dtype, [&](auto storage) {
      using S = decltype(storage);
      return run<S, ScoreS, UprightCandidates<S, ScoreS>>(p, stream);
    });
  });
}

}  // namespace detcore
