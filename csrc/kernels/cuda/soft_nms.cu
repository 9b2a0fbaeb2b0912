// Soft-NMS uses one block, because each selection depends on the previous decay. A thread decays
// every blockDim-th box and remembers the best it saw. Warps reduce by shuffles, and every warp
// reduces the results of all warps itself, so a selection costs one barrier.
#include "detcore/soft_nms.h"

#include "block_scan.cuh"
#include "launch.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kMostThreads = 1024;
constexpr int kBoxesPerThread = 8;  // few boxes get few threads: barriers are shorter
// A score of -inf means that no box is left. Among equal scores the lower index is better.
template <class T>
struct Candidate {
  T score;
  int64_t index;
  __device__ bool loses_to(const Candidate& other) const {
    return other.score > score || (other.score == score && other.index < index);
  }
};

// The best candidate of a warp, returned in all lanes.
template <class T>
__device__ Candidate<T> best_of_warp(Candidate<T> mine) {
  for (int flip = 16; flip > 0; flip /= 2) {
    const Candidate<T> other{__shfl_xor_sync(kAllLanes, mine.score, flip),
                             __shfl_xor_sync(kAllLanes, mine.index, flip)};
    if (mine.loses_to(other)) mine = other;
  }
  return mine;
}

template <SoftNmsMethod method, class S, class ScoreS, class T>
__global__ __launch_bounds__(kMostThreads) void select_kernel(SoftNmsParams p) {
  // two arrays, used alternately, because the previous one may still be read
  __shared__ Candidate<T> warp_best[2][kMostThreads / 32];
  const T gone = T(-INFINITY);
  const SoftNmsRule<T> rule = rule_of<T>(p);
  const S* boxes = static_cast<const S*>(p.boxes);
  T* scores = static_cast<T*>(p.workspace);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  auto box_at = [&](int64_t i) {
    const auto b = load_box(boxes + 4 * i);
    return measure<IouKind::iou>(Box<T>{T(b.x1), T(b.y1), T(b.x2), T(b.y2)});
  };

  Candidate<T> best{gone, 0};
  for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) {
    const bool whole = !has_nan(load_box(boxes + 4 * i));
    const T score = T(widen(static_cast<const ScoreS*>(p.scores)[i]));
    scores[i] = whole && score >= rule.least ? score : gone;
    if (scores[i] > best.score) best = {scores[i], i};
  }
  for (int64_t count = 0;; ++count) {
    best = best_of_warp(best);
    if (lane == 0) warp_best[count % 2][warp] = best;
    __syncthreads();
    const Candidate<T> none{gone, 0};
    const Candidate<T> chosen = best_of_warp(lane < warps ? warp_best[count % 2][lane] : none);
    if (chosen.score == gone) {
      if (threadIdx.x == 0) *p.count = count;
      return;
    }
    if (threadIdx.x == 0) {
      p.keep[count] = chosen.index;
      narrow(arithmetic_t<ScoreS>(chosen.score), static_cast<ScoreS*>(p.decayed)[count]);
    }
    const MeasuredBox<T> selected = box_at(chosen.index);
    best = none;
    for (int64_t i = threadIdx.x; i < p.n; i += blockDim.x) {
      T score = scores[i];
      if (score == gone) continue;
      if (i == chosen.index) {
        scores[i] = gone;
        continue;
      }
      const MeasuredBox<T> box = box_at(i);
      if (intersection<T>(selected, box) > T(0)) {
        const T q = overlap<IouKind::iou>(selected, box, IouEps<T>{T(0), T(0)});
        score = decayed_score<method>(rule, score, q);
        if (!(score >= rule.least)) score = gone;
        scores[i] = score;
      }
      if (score > best.score) best = {score, i};
    }
  }
}

template <SoftNmsMethod method, class S, class ScoreS>
Status run(const SoftNmsParams& p, Stream stream) {
  using T = decltype(arithmetic_t<S>{} + arithmetic_t<ScoreS>{});
  const int64_t warps = (p.n + 32 * kBoxesPerThread - 1) / (32 * kBoxesPerThread);
  const int threads = warps < kMostThreads / 32 ? int(warps) * 32 : kMostThreads;
  return launch(select_kernel<method, S, ScoreS, T>, {1, threads}, stream, p);
}

}  // namespace

size_t soft_nms_workspace_cuda(const SoftNmsParams& p) {
  const bool wide = p.boxes_dtype == DType::f64 || p.scores_dtype == DType::f64;
  return size_t(p.n) * (wide ? sizeof(double) : sizeof(float));
}

Status soft_nms_cuda(const SoftNmsParams& p, Stream stream) {
  if (p.n == 0) return clear(p.count, sizeof *p.count, stream);
  return with_storage(p.boxes_dtype, [&](auto storage) {
    return with_storage(p.scores_dtype, [&](auto score_storage) {
      using S = decltype(storage);
      using ScoreS = decltype(score_storage);
      if (p.method == SoftNmsMethod::linear)
        return run<SoftNmsMethod::linear, S, ScoreS>(p, stream);
      return run<SoftNmsMethod::gaussian, S, ScoreS>(p, stream);
    });
  });
}

}  // namespace detcore
