// Forward of roi_align and multiscale_roi_align. With one or two samples per bin and axis, which is
// what models use, a thread owns a bin. It computes the pixels and weights of the bin once, keeps
// them in registers, and loops over some of the channels, adding only an offset. All loads of a
// channel are in flight together. Bins, channels and regions form one range that is divided evenly,
// so all lanes are busy. roi_align_lists.cuh handles any other number of samples.
#include "detcore/roi_align.h"

#include "block_scan.cuh"
#include "divider.cuh"
#include "launch.cuh"
#include "roi_align_lists.cuh"
#include "roi_axis.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 64;                 // few, so that small inputs are divided evenly
constexpr int64_t kEnoughThreads = 1 << 17;  // to fill a large device
constexpr int64_t kMostThreads = 0x7fffffff;

// The pixels and weights of a bin along one axis: two pixels per sample.
template <class T, int kSamples>
struct BinTaps {
  T weight[2 * kSamples];
  int32_t pixel[2 * kSamples];
  bool any;  // false: all samples are outside the map

  __device__ BinTaps(RoiAxis<T> axis, int32_t bin) : any(false) {
    const int32_t size = int32_t(axis.size);
    const bool finite = axis.samples > 0;
    axis.samples = kSamples;  // a constant, which avoids a division
    bool inside[kSamples];
    for (int s = 0; s < kSamples; ++s) {
      Tap<T, int32_t> tap{0, T(0), T(0)};
      inside[s] = make_tap(axis.position(bin, s), size, tap) && finite;
      any = any || inside[s];
      // A weight of 0 times an infinite pixel is NaN, and the pixel may be past the edge. So such a
      // tap uses its neighbour's pixel, and each gets half the weight.
      const bool near = tap.near != T(0), far = tap.far != T(0), both = near && far;
      const T half = T(0.5) * (tap.near + tap.far);
      weight[2 * s] = T(1.0 / kSamples) * (both ? tap.near : half);
      weight[2 * s + 1] = T(1.0 / kSamples) * (both ? tap.far : half);
      pixel[2 * s] = tap.low + (far && !near);
      pixel[2 * s + 1] = tap.low + far;
    }
    // A sample outside the map shares the taps of the other sample in the same way.
    if constexpr (kSamples == 2) {
      for (int k = 0; k < 2; ++k) {
        const T shared = T(0.5) * (weight[k] + weight[2 + k]);
        if (inside[0] != inside[1]) weight[k] = weight[2 + k] = shared;
        pixel[k] = inside[0] ? pixel[k] : pixel[2 + k];
        pixel[2 + k] = inside[1] ? pixel[2 + k] : pixel[k];
      }
    }
  }

  // Samples less than one pixel apart share a pixel. Then three pixels are enough, and merge()
  // moves them to the front.
  __device__ bool three_do() const {
    return !any || pixel[0] == pixel[1] || pixel[1] == pixel[2] || pixel[2] == pixel[3] ||
           pixel[0] == pixel[2];
  }
  __device__ void merge() {
    const bool same = pixel[0] == pixel[2] && pixel[1] == pixel[3];  // the samples share both
    const bool low = pixel[0] == pixel[1], high = pixel[2] == pixel[3];
    const T half = T(0.5) * (weight[1] + weight[3]);  // avoids a weight of 0, as above
    const T first = weight[0] + (same ? weight[2] : low ? weight[1] : T(0));
    const T middle = same ? half : low ? weight[2] : high ? weight[1] : weight[1] + weight[2];
    const T last = same ? half : low ? weight[3] : high ? weight[2] + weight[3] : weight[3];
    weight[0] = first, weight[1] = middle, weight[2] = last;
    pixel[1] = !same && low ? pixel[2] : pixel[1];
    pixel[2] = pixel[3];
  }
};

// How the work is divided into threads. For contiguous maps bins vary fastest, then channels, then
// regions; for channels-last maps channels, then bins, then regions.
struct Share {
  uint32_t threads;
  uint32_t groups, parts;  // groups of kWide channels; step from a thread's group to its next
  Divider inner, outer, columns;
};

// Where a thread reads and writes. group_step and out_step lead to the next group of channels.
template <class S>
struct Walk {
  const S* map;
  S* out;  // null: don't store
  int64_t pixel_step, group_step, out_step;
  uint32_t first;  // group
};

// Pools the channel groups of one thread from kRows x kColumns pixels.
template <int kRows, int kColumns, int kAtOnce, int kWide, class S, class Taps>
__device__ void walk_groups(const Walk<S>& walk, const Share& share, const Taps& ys, const Taps& xs,
                            int64_t width) {
  using T = arithmetic_t<S>;
  int64_t offset[kRows][kColumns];  // bytes
  for (int y = 0; y < kRows; ++y)
    for (int x = 0; x < kColumns; ++x)
      offset[y][x] = (ys.pixel[y] * width + xs.pixel[x]) * walk.pixel_step * int64_t(sizeof(S));
  for (uint32_t first = walk.first; first < share.groups; first += kAtOnce * share.parts) {
    Wide<S, kWide> values[kAtOnce][kRows][kColumns];
    for (int n = 0; n < kAtOnce; ++n) {
      // A group past the end is replaced by the first, and its result is not stored.
      const uint32_t group =
          first + n * share.parts < share.groups ? first + n * share.parts : first;
      const char* from = reinterpret_cast<const char*>(walk.map + group * walk.group_step);
      for (int y = 0; y < kRows; ++y)
        for (int x = 0; x < kColumns; ++x)
          values[n][y][x] = load_wide<kWide>(reinterpret_cast<const S*>(from + offset[y][x]));
    }
    for (int n = 0; n < kAtOnce; ++n) {
      const uint32_t group = first + n * share.parts;
      Wide<S, kWide> to;
      for (int k = 0; k < kWide; ++k) {
        T sum = T(0);
        for (int y = 0; y < kRows; ++y) {
          T row = T(0);
          for (int x = 0; x < kColumns; ++x)
            row = multiply_add(xs.weight[x], widen(values[n][y][x].v[k]), row);
          sum = multiply_add(ys.weight[y], row, sum);
        }
        narrow(sum, to.v[k]);
      }
      if (group < share.groups && walk.out) store_wide(walk.out + group * walk.out_step, to);
    }
  }
}

template <class S, int kWide, int kSamples, int kAtOnce>
__device__ void pool_bin(const RoiAlignParams& p, const Share& share, uint32_t own) {
  using T = arithmetic_t<S>;
  // A thread past the end repeats the work of the last one and stores nothing.
  const uint32_t last = share.threads - 1;
  uint32_t inner, outer, bx;
  const uint32_t roi = share.outer(share.inner(own < last ? own : last, inner), outer);
  const uint32_t bin = p.channels_last ? outer : inner, part = p.channels_last ? inner : outer;
  const uint32_t by = share.columns(bin, bx);

  const T* r = static_cast<const T*>(p.rois) + 5 * int64_t(roi);
  const int level = level_of(p, r);
  const int64_t image = image_of(p, r);
  const RoiAxis<T> rows = axis_of(p, r, level, false, kSamples),
                   columns = axis_of(p, r, level, true, kSamples);
  BinTaps<T, kSamples> ys(rows, int32_t(by)), xs(columns, int32_t(bx));

  const int64_t width = columns.size, plane = rows.size * width;
  const int64_t bins = int64_t(p.out_height) * p.out_width;
  Walk<S> walk;
  walk.pixel_step = p.channels_last ? p.channels : 1;
  walk.group_step = p.channels_last ? kWide : kWide * plane;
  walk.out_step = p.channels_last ? kWide : kWide * bins;
  walk.map = static_cast<const S*>(p.levels[level].map) + image * p.channels * plane;
  walk.out = own <= last ? static_cast<S*>(p.out) + roi * p.channels * bins + bin * walk.pixel_step
                         : nullptr;
  walk.first = part;
  // all lanes of a warp load three pixels, or all load four, so that they don't diverge
  bool three_rows = false, three_columns = false;
  if constexpr (kSamples == 2) {
    three_rows = __all_sync(kAllLanes, ys.three_do());
    three_columns = __all_sync(kAllLanes, xs.three_do());
    if (three_rows) ys.merge();
    if (three_columns) xs.merge();
  }
  if (!ys.any || !xs.any || image < 0) {
    if (walk.out)
      for (uint32_t group = part; group < share.groups; group += share.parts)
        store_wide(walk.out + group * walk.out_step, Wide<S, kWide>{});
  } else if constexpr (kSamples == 1) {
    walk_groups<2, 2, kAtOnce, kWide>(walk, share, ys, xs, width);
  } else if (three_rows && three_columns) {
    walk_groups<3, 3, kAtOnce, kWide>(walk, share, ys, xs, width);
  } else if (three_rows) {
    walk_groups<3, 4, kAtOnce, kWide>(walk, share, ys, xs, width);
  } else if (three_columns) {
    walk_groups<4, 3, kAtOnce, kWide>(walk, share, ys, xs, width);
  } else {
    walk_groups<4, 4, kAtOnce, kWide>(walk, share, ys, xs, width);
  }
}

template <class S, int kWide, int kSamples, int kAtOnce>
__global__ __launch_bounds__(kThreads) void bin_kernel(RoiAlignParams p, Share share) {
  for (uint32_t first = blockIdx.x * kThreads; first < share.threads; first += gridDim.x * kThreads)
    pool_bin<S, kWide, kSamples, kAtOnce>(p, share, first + threadIdx.x);
}

template <class S, int kWide, int kSamples>
Status pool_by_bins(const RoiAlignParams& p, Stream stream) {
  // the number of groups whose pixels are in registers at once
  constexpr int at_once = kWide > 1 ? 1 : sizeof(S) == 8 ? 2 : 4;
  const int64_t bins = int64_t(p.out_height) * p.out_width, groups = p.channels / kWide;
  int64_t each = at_once, parts = 0;
  if (p.n * bins * groups == 0) return {};
  const auto threads = [&] { return p.n * bins * parts; };
  for (;; each *= 2) {
    parts = (groups + each - 1) / each;
    if (parts <= 1 || (threads() < 2 * kEnoughThreads && threads() <= kMostThreads)) break;
  }
  const uint32_t inner = uint32_t(p.channels_last ? parts : bins);
  const uint32_t outer = uint32_t(p.channels_last ? bins : parts);
  const Share share{uint32_t(threads()), uint32_t(groups), uint32_t(parts),
                    Divider(inner),      Divider(outer),   Divider(uint32_t(p.out_width))};
  return launch(bin_kernel<S, kWide, kSamples, at_once>,
                {blocks_for(threads(), kThreads), kThreads}, stream, p, share);
}

// pool_by_bins() has 32-bit indices of threads, of channels and of the pixels along an axis.
bool fits_bins(const RoiAlignParams& p) {
  bool fits = p.n * p.out_height * p.out_width <= kMostThreads && p.channels <= kMostThreads;
  for (int l = 0; l < p.level_count; ++l)
    fits = fits && p.levels[l].height <= kMostThreads && p.levels[l].width <= kMostThreads;
  return fits;
}

template <class S, int kWide>
Status run(const RoiAlignParams& p, Stream stream) {
  if (p.sampling_ratio == 1 && fits_bins(p)) return pool_by_bins<S, kWide, 1>(p, stream);
  if (p.sampling_ratio == 2 && fits_bins(p)) return pool_by_bins<S, kWide, 2>(p, stream);
  return pool_by_lists<S, kWide>(p, stream);
}

}  // namespace

Status roi_align_cuda(const RoiAlignParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    constexpr int wide = 16 / sizeof(S);
    bool aligned = aligned_to_16(p.out);
    for (int l = 0; l < p.level_count; ++l) aligned = aligned && aligned_to_16(p.levels[l].map);
    return p.channels_last && p.channels % wide == 0 && aligned ? run<S, wide>(p, stream)
                                                                : run<S, 1>(p, stream);
  });
}

}  // namespace detcore
