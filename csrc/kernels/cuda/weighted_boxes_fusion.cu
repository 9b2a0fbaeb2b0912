// A label's boxes come one after the other, since each changes the fused boxes that the next one is
// compared with. So a block does one label: its threads compare, and one of them adds the box.
#include "detcore/weighted_boxes_fusion.h"

#include "block_scan.cuh"
#include "launch.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

__device__ int64_t label_at(const WeightedBoxesFusionParams& p, int64_t at) {
  return p.labels[p.order[at]];
}

// The best fused box so far for one box; its index is that within the label, or none.
struct Candidate {
  double iou;
  int64_t index;
  __device__ void take(const Candidate& other) {
    const bool better = other.iou > iou || (other.iou == iou && other.index < index);
    if (better) iou = other.iou, index = other.index;
  }
};

constexpr int64_t kNone = 0x7fffffffffffffff;

// All threads return the fused box of the label with the highest IoU above the threshold.
__device__ int64_t best_for(const WeightedBoxesFusionParams& p, const double* corners,
                            int64_t count, const Box<double>& box) {
  __shared__ Candidate of_warp[kWarps];
  Candidate best{p.iou_threshold, kNone};
  for (int64_t k = threadIdx.x; k < count; k += kThreads) {
    const Box<double> other{corners[k], corners[p.n + k], corners[2 * p.n + k],
                            corners[3 * p.n + k]};
    const double inter = intersection(other, box);
    const double iou = inter > 0.0 ? inter / union_area(other.area(), box.area(), inter) : -1.0;
    if (iou > best.iou) best = {iou, k};
  }
  for (int step = 16; step > 0; step /= 2) {
    const Candidate other{__shfl_xor_sync(kAllLanes, best.iou, step),
                          __shfl_xor_sync(kAllLanes, best.index, step)};
    best.take(other);
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = best;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) best.take(of_warp[w]);
  return best.index;
}

__global__ void fuse_kernel(WeightedBoxesFusionParams p) {
  __shared__ int64_t shared_count;
  const FusionScratch s(p);
  for (int64_t begin = blockIdx.x; begin < p.n; begin += gridDim.x) {
    if (begin > 0 && label_at(p, begin) == label_at(p, begin - 1)) {
      if (threadIdx.x == 0) s.members[begin] = 0;
      continue;
    }
    if (threadIdx.x == 0) shared_count = 0;
    __syncthreads();
    const int64_t label = label_at(p, begin);
    for (int64_t at = begin; at < p.n && label_at(p, at) == label; ++at) {
      const int64_t i = p.order[at];
      if (!takes_part(p, i)) continue;
      const double* b = p.boxes + 4 * i;
      const int64_t count = shared_count;
      int64_t to = best_for(p, s.corners + begin, count, {b[0], b[1], b[2], b[3]});
      if (threadIdx.x == 0) {
        double* corner = s.corners + begin + (to == kNone ? count : to);
        if (to == kNone) {
          to = count, shared_count = count + 1;
          s.fused[begin + to] = FusedBox{};
          for (int64_t w = 0; w < s.words; ++w) s.seen[(begin + to) * s.words + w] = 0;
          for (int c = 0; c < 4; ++c) corner[c * p.n] = b[c];
        }
        const Box<double> old{corner[0], corner[p.n], corner[2 * p.n], corner[3 * p.n]};
        const Box<double> mean =
            add_member(p, i, s.fused[begin + to], s.seen + (begin + to) * s.words, old);
        corner[0] = mean.x1, corner[p.n] = mean.y1;
        corner[2 * p.n] = mean.x2, corner[3 * p.n] = mean.y2;
      }
      __syncthreads();  // before the next box reads the fused ones
    }
    if (threadIdx.x == 0) s.members[begin] = shared_count;
    __syncthreads();  // before the count is reset
  }
}

// One block moves the fused boxes of all labels together.
__global__ void compact_kernel(WeightedBoxesFusionParams p) {
  const FusionScratch s(p);
  int64_t done = 0, until = 0;  // the current label's fused boxes end at `until`
  for (int64_t first = 0; first < p.n; first += kThreads) {
    const int64_t at = first + threadIdx.x;
    // the label of a place is the last one that begins at or before it
    int64_t end = at < p.n && s.members[at] > 0 ? at + s.members[at] : 0;
    __shared__ int64_t ends[kThreads];
    ends[threadIdx.x] = end;
    __syncthreads();
    for (int t = 0; t <= int(threadIdx.x); ++t) end = ends[t] > end ? ends[t] : end;
    end = until > end ? until : end;
    const bool own = at < end && at < p.n;
    uint32_t more;
    const int64_t to = done + exclusive_count(own, more);
    if (own) {
      for (int c = 0; c < 4; ++c) p.out_boxes[4 * to + c] = s.corners[c * p.n + at];
      p.out_scores[to] = fused_score(p, s.fused[at]);
      p.out_labels[to] = label_at(p, at);
    }
    done += more;
    for (int t = 0; t < kThreads; ++t) until = ends[t] > until ? ends[t] : until;
    __syncthreads();  // before the next tile overwrites the ends
  }
  if (threadIdx.x == 0) *p.count = done;
}

}  // namespace

Status weighted_boxes_fusion_cuda(const WeightedBoxesFusionParams& p, Stream stream) {
  if (p.n == 0) return clear(p.count, sizeof *p.count, stream);
  const Status status = launch(fuse_kernel, {blocks_for(p.n, 1), kThreads}, stream, p);
  return status ? launch(compact_kernel, {1, kThreads}, stream, p) : status;
}

}  // namespace detcore
