// One pass over the pairs. A block holds a share of the anchors in registers, four per thread (one
// of rotated boxes), and goes through all ground truths. So a thread knows the best ground truth of
// its anchors at once. The best anchor of a ground truth in the share is found by a vote in each
// warp; most warps see no overlap at all. A second kernel takes the best over the shares, in order.
// A third flags the anchors that tie with it, and searches only the shares that contain the best
// IoU.
#include "detcore/match_boxes.h"

#include "block_scan.cuh"
#include "launch.cuh"
#include "rotated_loads.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;
constexpr int kGts = 64;  // in shared memory at once
constexpr int64_t kMostShares = 512, kMostPartial = 1 << 20, kLeastShares = 16;
constexpr int64_t kMostBoxes = 0x7fffffff;  // per image: indices have 32 bits

// The best of a row or column so far; iou and index are -1 if there is none yet.
template <class T>
struct Best {
  T iou;
  int32_t index;
  __device__ void take(T other, int32_t at) {
    if (other > iou) iou = other, index = at;
  }
};

template <class T>
struct Partial {
  Best<T>* best;           // [shares, m]
  int64_t shares;          // shares per image
  int64_t gts, gt_groups;  // blocks per image: one per ground truth; one per kThreads of them
};

// The anchors of one share of an image; indices count from the image's first anchor.
struct Share {
  int64_t begin, end;
  __device__ Share(const ImageBoxes& image, int64_t share, int64_t shares) {
    const int64_t length = (image.anchors + shares - 1) / shares;
    begin = share * length < image.anchors ? share * length : image.anchors;
    end = begin + length < image.anchors ? begin + length : image.anchors;
  }
};

// Both ways to compare boxes. iou() has the same value as box_iou, but 0 instead of NaN.
template <class S>
struct UprightPairs {
  using Storage = S;
  using T = arithmetic_t<S>;
  using Measured = MeasuredBox<T>;
  static constexpr int per_thread = 4;  // anchors that a thread holds in registers

  __device__ static Measured load(const void* boxes, int64_t i) {
    return measure<IouKind::iou>(load_box(static_cast<const S*>(boxes) + 4 * i));
  }
  __device__ static bool is_nan(const Measured& box) { return has_nan<T>(box); }
  __device__ static T iou(const Measured& gt, const Measured& anchor) {
    if (!(intersection<T>(gt, anchor) > T(0))) return T(0);
    const T iou = overlap<IouKind::iou>(gt, anchor, IouEps<T>{T(0), T(0)});
    return iou > T(0) ? iou : T(0);
  }
};

template <class S>
struct RotatedPairs {
  using Storage = S;
  using T = arithmetic_t<S>;
  struct Measured : RotatedBox<T, double> {
    bool nan;
  };
  static constexpr int per_thread = 1;  // more would lack registers

  __device__ static Measured load(const void* boxes, int64_t i) {
    constexpr int numbers = numbers_of(RotatedKind::image);
    const S* b = static_cast<const S*>(boxes) + numbers * i;
    bool nan = false;
    for (int k = 0; k < numbers; ++k) nan |= widen(b[k]) != widen(b[k]);
    return {load_rotated(static_cast<const S*>(boxes), i), nan};
  }
  __device__ static bool is_nan(const Measured& box) { return box.nan; }
  __device__ static T iou(const Measured& gt, const Measured& anchor) {
    if (are_apart(gt, anchor)) return T(0);
    const T iou = rotated_overlap(gt, anchor);
    return iou > T(0) ? iou : T(0);
  }
};

// Initializes all results, because the offsets may assign some boxes to no image.
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

// What a thread stores for its consecutive anchors. `begin` is the image's first one.
template <class Pairs>
struct ThreadAnchors {
  using T = typename Pairs::T;
  typename Pairs::Measured box[Pairs::per_thread];
  Best<T> best[Pairs::per_thread];
  bool whole[Pairs::per_thread];  // true if in the share and not NaN

  __device__ ThreadAnchors(const void* anchors, int64_t begin, int64_t first, int64_t end) {
    for (int k = 0; k < Pairs::per_thread; ++k) {
      const bool there = first + k < end;
      box[k] = Pairs::load(anchors, begin + (there ? first + k : end - 1));
      whole[k] = there && !Pairs::is_nan(box[k]);
      best[k] = {T(-1), -1};
    }
  }
};

// Compares one ground truth with all anchors of a warp. Updates the best of each anchor, and stores
// the warp's best anchor for this ground truth in `of_warp`.
template <class Pairs, class T = typename Pairs::T>
__device__ void match(const typename Pairs::Measured& gt, int32_t g, int32_t first,
                      ThreadAnchors<Pairs>& anchors, Best<T>& of_warp) {
  T iou[Pairs::per_thread], most = T(-1);
  for (int k = 0; k < Pairs::per_thread; ++k) {
    iou[k] = anchors.whole[k] ? Pairs::iou(gt, anchors.box[k]) : T(-1);
    if (anchors.whole[k]) anchors.best[k].take(iou[k], g);
    most = lane_max(most, iou[k]);
  }
  T all = most;
  if (__any_sync(kAllLanes, most > T(0)))
    for (int flip = 16; flip > 0; flip /= 2)
      all = lane_max(all, __shfl_xor_sync(kAllLanes, all, flip));
  else  // no anchor overlaps: the first valid one is best
    all = __any_sync(kAllLanes, most == T(0)) ? T(0) : T(-1);
  const int lane = __ffs(int(__ballot_sync(kAllLanes, most == all))) - 1;
  if (int(threadIdx.x % 32) != lane) return;
  int k = 0;
  for (int other = Pairs::per_thread - 1; other >= 0; --other)
    if (iou[other] == all) k = other;
  of_warp = {all, all < T(0) ? -1 : first + k};
}

// One block per image and share of its anchors.
template <class Pairs>
__global__ void pair_kernel(MatchBoxesParams p, Partial<typename Pairs::T> partial) {
  using T = typename Pairs::T;
  __shared__ typename Pairs::Measured gts[kGts];
  __shared__ Best<T> warp_best[kGts][kWarps];
  const int warp = threadIdx.x / 32;
  for (int64_t unit = blockIdx.x; unit < p.images * partial.shares; unit += gridDim.x) {
    const ImageBoxes image = boxes_of_image(p, unit / partial.shares);
    const Share share(image, unit % partial.shares, partial.shares);
    Best<T>* of_share = partial.best + unit % partial.shares * p.m + image.gt_begin;
    if (share.begin == share.end)
      for (int64_t g = threadIdx.x; g < image.gts; g += kThreads) of_share[g] = {T(-1), -1};

    for (int64_t tile = share.begin; tile < share.end; tile += kThreads * Pairs::per_thread) {
      const int64_t first = tile + threadIdx.x * Pairs::per_thread;
      ThreadAnchors<Pairs> anchors(p.anchors, image.anchor_begin, first, share.end);
      for (int64_t g0 = 0; g0 < image.gts; g0 += kGts) {
        const int count = image.gts - g0 < kGts ? int(image.gts - g0) : kGts;
        __syncthreads();  // every thread has read the last ground truths and results
        if (int(threadIdx.x) < count)
          gts[threadIdx.x] = Pairs::load(p.gt, image.gt_begin + g0 + threadIdx.x);
        __syncthreads();
        for (int k = 0; k < count; ++k)
          if (!Pairs::is_nan(gts[k]))
            match<Pairs>(gts[k], int32_t(g0 + k), int32_t(first), anchors, warp_best[k][warp]);
        __syncthreads();
        if (int(threadIdx.x) < count) {
          Best<T> best{T(-1), -1};
          if (tile > share.begin) best = of_share[g0 + threadIdx.x];
          if (!Pairs::is_nan(gts[threadIdx.x]))
            for (const Best<T>& other : warp_best[threadIdx.x]) best.take(other.iou, other.index);
          of_share[g0 + threadIdx.x] = best;
        }
      }
      for (int k = 0; k < Pairs::per_thread && first + k < share.end; ++k) {
        const int64_t at = image.out_begin + first + k;
        const Best<T> best = anchors.best[k];
        p.gt_of_anchor[at] = best.index;
        static_cast<T*>(p.iou_of_anchor)[at] = best.index < 0 ? T(0) : best.iou;
        p.is_best_for_some_gt[at] = false;
      }
    }
  }
}

// One thread per ground truth: takes the best over all shares. An earlier share wins a tie, because
// it has the lower indices.
template <class T>
__global__ void merge_kernel(MatchBoxesParams p, Partial<T> partial) {
  for (int64_t unit = blockIdx.x; unit < p.images * partial.gt_groups; unit += gridDim.x) {
    const ImageBoxes image = boxes_of_image(p, unit / partial.gt_groups);
    for (int64_t i = unit % partial.gt_groups * kThreads + threadIdx.x; i < image.gts;
         i += partial.gt_groups * kThreads) {
      const int64_t g = image.gt_begin + i;
      Best<T> best{T(-1), -1};
      for (int64_t s = 0; s < partial.shares; ++s) {
        const Best<T> other = partial.best[s * p.m + g];
        best.take(other.iou, other.index);
      }
      p.anchor_of_gt[g] = best.index;
      static_cast<T*>(p.iou_of_gt)[g] = best.index < 0 ? T(0) : best.iou;
    }
  }
}

// One block per ground truth: flags the anchors that tie with its best, in the shares that contain
// it.
template <class Pairs>
__global__ void tie_kernel(MatchBoxesParams p, Partial<typename Pairs::T> partial) {
  using T = typename Pairs::T;
  for (int64_t unit = blockIdx.x; unit < p.images * partial.gts; unit += gridDim.x) {
    const ImageBoxes image = boxes_of_image(p, unit / partial.gts);
    for (int64_t i = unit % partial.gts; i < image.gts; i += partial.gts) {
      const int64_t g = image.gt_begin + i;
      if (p.anchor_of_gt[g] < 0) continue;
      const T best = static_cast<const T*>(p.iou_of_gt)[g];
      const auto gt = Pairs::load(p.gt, g);
      for (int64_t s = 0; s < partial.shares; ++s) {
        if (partial.best[s * p.m + g].iou != best) continue;
        const Share share(image, s, partial.shares);
        for (int64_t a = share.begin + threadIdx.x; a < share.end; a += kThreads) {
          const auto anchor = Pairs::load(p.anchors, image.anchor_begin + a);
          if (!Pairs::is_nan(anchor) && Pairs::iou(gt, anchor) == best)
            publish(p.is_best_for_some_gt + image.out_begin + a, true);  // others may do the same
        }
      }
    }
  }
}

template <class T>
Partial<T> layout(const MatchBoxesParams& p) {
  const int64_t at_once =
      kThreads * (p.rotated ? RotatedPairs<float>::per_thread : UprightPairs<float>::per_thread);
  const int64_t anchors = p.anchor_offsets ? p.n / p.images : p.n;
  int64_t most = kMostPartial / (p.m + 1);
  most = most < kLeastShares ? kLeastShares : most < kMostShares ? most : kMostShares;
  const int64_t shares = (anchors + at_once - 1) / at_once, gts = p.m / p.images + 1;
  return {static_cast<Best<T>*>(p.workspace),
          shares < 1      ? 1
          : shares < most ? shares
                          : most,
          gts, blocks_for(gts, kThreads)};
}

template <class Pairs>
Status run(const MatchBoxesParams& p, Stream stream) {
  using T = typename Pairs::T;
  const Partial<T> partial = layout<T>(p);
  const int64_t results = p.anchor_offsets ? p.n : p.images * p.n;
  Status status;
  if (p.gt_offsets)
    status = launch(clear_kernel<T>, {blocks_for(results + p.m, kThreads), kThreads}, stream, p,
                    results);
  if (status)
    status = launch(pair_kernel<Pairs>, {blocks_for(p.images * partial.shares, 1), kThreads},
                    stream, p, partial);
  if (!status || p.m == 0) return status;
  status = launch(merge_kernel<T>, {blocks_for(p.images * partial.gt_groups, 1), kThreads}, stream,
                  p, partial);
  if (!status) return status;
  return launch(tie_kernel<Pairs>, {blocks_for(p.images * partial.gts, 1), kThreads}, stream, p,
                partial);
}

}  // namespace

size_t match_boxes_workspace_cuda(const MatchBoxesParams& p) {
  return p.images ? size_t(layout<double>(p).shares) * p.m * sizeof(Best<double>) : 0;
}

Status match_boxes_cuda(const MatchBoxesParams& p, Stream stream) {
  if (p.images == 0) return {};
  if (p.m > kMostBoxes || p.n > kMostBoxes) return {"at most 2^31 - 1 boxes"};
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    return p.rotated ? run<RotatedPairs<S>>(p, stream) : run<UprightPairs<S>>(p, stream);
  });
}

}  // namespace detcore
