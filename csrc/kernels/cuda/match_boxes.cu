// The matrix is cheaper to compute twice than to write once. First a block takes four ground truths
// into registers and streams a share of the anchors past them, so that an anchor's bytes serve
// four; bests are reduced within the block by a fixed tree and over the shares in order. Then a
// thread an anchor sees all ground truths, and knows their bests already: argmax and ties at once.
#include "detcore/match_boxes.h"

#include "launch.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kGts = 4;
constexpr int64_t kLeastShare =
    2048;  // anchors; below that the reduction costs more than the pairs
constexpr int64_t kMostShares = 64;

// The best of a row or column so far; iou -1 and index -1: none yet.
template <class T>
struct Best {
  T iou;
  int64_t index;
  __device__ bool loses_to(const Best& other) const {
    return other.iou > iou || (other.iou == iou && other.index < index);
  }
};

template <class T>
struct Partial {
  Best<T>* best;                            // [shares, m]
  int64_t shares, gt_groups, anchor_tiles;  // groups and tiles: of an image of average size
};

// box_iou's number, 0 where that is NaN.
template <class T>
__device__ T iou_of(const MeasuredBox<T>& gt, const MeasuredBox<T>& anchor) {
  if (!(intersection<T>(gt, anchor) > T(0))) return T(0);
  const T iou = overlap<IouKind::iou>(gt, anchor, IouEps<T>{T(0), T(0)});
  return iou > T(0) ? iou : T(0);
}

// What stays where offsets leave a box to no image.
template <class T>
__global__ void clear_kernel(MatchBoxesParams p, int64_t results) {
  for (int64_t i = global_thread(); i < results; i += all_threads()) {
    p.gt_of_anchor[i] = -1;
    static_cast<T*>(p.iou_of_anchor)[i] = T(0);
    p.is_best_for_some_gt[i] = false;
  }
  for (int64_t i = global_thread(); i < p.m; i += all_threads()) {
    p.anchor_of_gt[i] = -1;
    static_cast<T*>(p.iou_of_gt)[i] = T(0);
  }
}

// Block: an image, a group of its ground truths, a share of its anchors.
template <class S>
__global__ void gt_kernel(MatchBoxesParams p, Partial<arithmetic_t<S>> partial) {
  using T = arithmetic_t<S>;
  __shared__ Best<T> warp_best[kGts][kWarps];
  const int64_t units = p.images * partial.gt_groups * partial.shares;
  for (int64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const int64_t share = unit % partial.shares, group = unit / partial.shares % partial.gt_groups;
    const ImageBoxes image = boxes_of_image(p, unit / partial.shares / partial.gt_groups);
    const S* gt = static_cast<const S*>(p.gt) + 4 * image.gt_begin;
    const S* anchors = static_cast<const S*>(p.anchors) + 4 * image.anchor_begin;
    const int64_t length = (image.anchors + partial.shares - 1) / partial.shares;
    const int64_t begin = share * length;
    const int64_t end = begin + length < image.anchors ? begin + length : image.anchors;

    for (int64_t g0 = group * kGts; g0 < image.gts; g0 += partial.gt_groups * kGts) {
      MeasuredBox<T> own[kGts];
      Best<T> best[kGts];
#pragma unroll
      for (int k = 0; k < kGts; ++k) {
        // past the end any ground truth will do: what it gives is not written
        const int64_t g = g0 + k < image.gts ? g0 + k : image.gts - 1;
        own[k] = measure<IouKind::iou>(load_box(gt + 4 * g));
        best[k] = {T(-1), -1};
      }
      for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
        const auto anchor = measure<IouKind::iou>(load_box(anchors + 4 * i));
        if (has_nan<T>(anchor)) continue;
#pragma unroll
        for (int k = 0; k < kGts; ++k) {
          const T iou = iou_of(own[k], anchor);
          if (iou > best[k].iou) best[k] = {iou, i};
        }
      }
#pragma unroll
      for (int k = 0; k < kGts; ++k) {
        for (int step = 16; step > 0; step /= 2) {
          const Best<T> other{__shfl_down_sync(0xffffffffu, best[k].iou, step),
                              __shfl_down_sync(0xffffffffu, best[k].index, step)};
          if (best[k].loses_to(other)) best[k] = other;
        }
        if (threadIdx.x % 32 == 0) warp_best[k][threadIdx.x / 32] = best[k];
      }
      __syncthreads();
      if (threadIdx.x < kGts && g0 + threadIdx.x < image.gts) {
        Best<T> all = warp_best[threadIdx.x][0];
        for (int w = 1; w < kWarps; ++w)
          if (all.loses_to(warp_best[threadIdx.x][w])) all = warp_best[threadIdx.x][w];
        partial.best[share * p.m + image.gt_begin + g0 + threadIdx.x] = all;
      }
      __syncthreads();  // before the next group overwrites the warps' bests
    }
  }
}

// A thread a ground truth: its best over all shares, of which the earlier has the lower index.
template <class S>
__global__ void merge_kernel(MatchBoxesParams p, Partial<arithmetic_t<S>> partial) {
  using T = arithmetic_t<S>;
  const int64_t units = p.images * partial.gt_groups;
  for (int64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const ImageBoxes image = boxes_of_image(p, unit / partial.gt_groups);
    for (int64_t i = unit % partial.gt_groups * kThreads + threadIdx.x; i < image.gts;
         i += partial.gt_groups * kThreads) {
      const int64_t g = image.gt_begin + i;
      Best<T> best{T(-1), -1};
      if (!has_nan<T>(load_box(static_cast<const S*>(p.gt) + 4 * g)))
        for (int64_t s = 0; s < partial.shares; ++s) {
          const Best<T> other = partial.best[s * p.m + g];
          if (other.iou > best.iou) best = other;
        }
      p.anchor_of_gt[g] = best.index;
      static_cast<T*>(p.iou_of_gt)[g] = best.iou < T(0) ? T(0) : best.iou;
    }
  }
}

// Block: an image and a tile of its anchors, one a thread.
template <class S>
__global__ void anchor_kernel(MatchBoxesParams p, Partial<arithmetic_t<S>> partial) {
  using T = arithmetic_t<S>;
  __shared__ MeasuredBox<T> gts[kThreads];
  __shared__ T best_of_gt[kThreads];  // -1: matched with nothing, to be left out
  const int64_t units = p.images * partial.anchor_tiles;
  for (int64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
    const ImageBoxes image = boxes_of_image(p, unit / partial.anchor_tiles);
    const S* anchors = static_cast<const S*>(p.anchors) + 4 * image.anchor_begin;
    // all threads of a block stay to load tiles, also those past the end
    for (int64_t base = unit % partial.anchor_tiles * kThreads; base < image.anchors;
         base += partial.anchor_tiles * kThreads) {
      const int64_t i = base + threadIdx.x;
      const auto anchor =
          measure<IouKind::iou>(load_box(anchors + 4 * (i < image.anchors ? i : base)));
      Best<T> best{T(-1), -1};
      bool ties = false;
      for (int64_t g0 = 0; g0 < image.gts; g0 += kThreads) {
        const int count = image.gts - g0 < kThreads ? int(image.gts - g0) : kThreads;
        __syncthreads();  // the last tile has been read
        if (int(threadIdx.x) < count) {
          const int64_t g = image.gt_begin + g0 + threadIdx.x;
          gts[threadIdx.x] = measure<IouKind::iou>(load_box(static_cast<const S*>(p.gt) + 4 * g));
          best_of_gt[threadIdx.x] =
              p.anchor_of_gt[g] < 0 ? T(-1) : static_cast<const T*>(p.iou_of_gt)[g];
        }
        __syncthreads();
        for (int k = 0; k < count; ++k) {
          if (best_of_gt[k] < T(0)) continue;
          const T iou = iou_of(gts[k], anchor);
          ties |= iou == best_of_gt[k];
          if (iou > best.iou) best = {iou, g0 + k};
        }
      }
      if (i >= image.anchors) continue;
      const bool none = best.index < 0 || has_nan<T>(anchor);
      const int64_t at = image.out_begin + i;
      p.gt_of_anchor[at] = none ? -1 : best.index;
      static_cast<T*>(p.iou_of_anchor)[at] = none ? T(0) : best.iou;
      p.is_best_for_some_gt[at] = ties && !none;
    }
  }
}

int64_t between(int64_t low, int64_t x, int64_t high) {
  return x < low ? low : x > high ? high : x;
}

template <class T>
Partial<T> layout(const MatchBoxesParams& p) {
  const int64_t anchors = p.anchor_offsets ? p.n / p.images : p.n;
  return {static_cast<Best<T>*>(p.workspace), between(1, anchors / kLeastShare, kMostShares),
          blocks_for(p.m / p.images + 1, kGts), blocks_for(anchors + 1, kThreads)};
}

}  // namespace

size_t match_boxes_workspace_cuda(const MatchBoxesParams& p) {
  return p.images ? size_t(layout<double>(p).shares) * p.m * sizeof(Best<double>) : 0;
}

Status match_boxes_cuda(const MatchBoxesParams& p, Stream stream) {
  if (p.images == 0) return {};
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    const Partial<T> partial = layout<T>(p);
    const int64_t results = p.anchor_offsets ? p.n : p.images * p.n;
    Status status;
    if (p.gt_offsets)
      status = launch(clear_kernel<T>, {blocks_for(results + p.m, kThreads), kThreads}, stream, p,
                      results);
    if (status && p.m) {
      const int64_t groups = p.images * partial.gt_groups;
      status = launch(gt_kernel<S>, {blocks_for(groups * partial.shares, 1), kThreads}, stream, p,
                      partial);
      if (status)
        status = launch(merge_kernel<S>, {blocks_for(groups, 1), kThreads}, stream, p, partial);
    }
    if (!status) return status;
    return launch(anchor_kernel<S>, {blocks_for(p.images * partial.anchor_tiles, 1), kThreads},
                  stream, p, partial);
  });
}

}  // namespace detcore
