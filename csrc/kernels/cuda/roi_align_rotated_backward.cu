// Backward of roi_align_rotated. A block owns a tile of 8 x 8 pixels of one image's map, for some
// channels, and keeps its sums in registers. So there are no atomics, and every run gives the same
// bits. The block goes through the regions in order:
//   1. find the regions of a batch that reach the tile
//   2. find those of their bins that reach the tile
//   3. of 32 such bins at a time: compute their weights for the tile's pixels, one thread per bin
//      and row, and load their gradient; then every warp, which owns a row of pixels, adds those
//      that have a weight in its row
#include "block_scan.cuh"
#include "rotated_roi.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 8;                   // pixels per side; a warp owns a row
constexpr int kAtOnce = kThreads / kTile;  // bins whose weights are there at once
constexpr int kChannelsPerLane = 2;
constexpr int kChannels = 32 * kChannelsPerLane;  // per block
constexpr int kBinStride = kChannels + 1;  // padded, so that adjacent bins use different banks

struct HitBin {
  int32_t region;  // of the batch
  int64_t bin;
};

template <class T>
struct Shared {
  int regions[kThreads];  // of the batch that reach the tile, in ascending order
  HitBin bins[kThreads];  // of these, in order, some at a time
  alignas(16) T weights[kAtOnce][kTile][kTile];  // [bin, row, column]
  T grads[kAtOnce * kBinStride];                 // [bin, channel]
  bool used[kTile][kAtOnce];                     // whether a bin has a weight in a row
};

// The position of a tile.
struct Place {
  int64_t image, y, x;  // y and x: the first pixel

  __device__ Place(const RoiAlignRotatedParams& p, int64_t tile) {
    const int64_t down = (p.height + kTile - 1) / kTile, across = (p.width + kTile - 1) / kTile;
    x = tile % across * kTile;
    y = tile / across % down * kTile;
    image = tile / across / down;
  }
  // Where samples reach the tile's pixels. Those up to one pixel outside the map belong to the
  // first or last pixel.
  template <class T>
  __device__ SampleArea<T> area() const {
    return {T(x - 1), T(y - 1), T(x + kTile), T(y + kTile)};
  }
  template <class T>
  __device__ bool reached_by(const RoiAlignRotatedParams& p, const RotatedRoi<T>& roi,
                             int64_t i) const {
    return roi.has_samples() && int64_t(static_cast<const T*>(p.rois)[6 * i]) == image &&
           roi.reaches(area<T>());
  }
};

// The quotient and rest of numbers that mostly fit 32 bits.
__device__ inline int64_t divide(int64_t a, int64_t b, int64_t& rest) {
  const int64_t quotient = (a | b) >> 32 ? a / b : int64_t(uint32_t(a) / uint32_t(b));
  rest = a - quotient * b;
  return quotient;
}

// The weights of a bin for the pixels of one row of the tile. Returns whether there are any.
template <class T>
__device__ bool weigh(const RoiAlignRotatedParams& p, const RotatedRoi<T>& roi, int64_t bin,
                      const Place& place, int row, T* weights) {
  const int64_t y = place.y + row;
  T sum[kTile];
  for (int k = 0; k < kTile; ++k) sum[k] = T(0);
  const SampleArea<T> area{T(place.x - 1), T(y - 1), T(place.x + kTile), T(y + 1)};
  int64_t bx;
  const int64_t by = divide(bin, p.out_width, bx);
  const T share = roi.weight();
  each_sample(roi, area, by, bx, [&](T at_x, T at_y) {
    RotatedTap<T, int32_t> tap;
    const bool inside = make_tap(at_x, at_y, int32_t(p.width), int32_t(p.height), tap);
    const int32_t below = int32_t(y) - tap.rows.low, column = tap.columns.low - int32_t(place.x);
    const T part = !inside ? T(0)
                           : share * (below == 0   ? tap.rows.near
                                      : below == 1 ? tap.rows.far
                                                   : T(0));
    for (int k = 0; k < kTile; ++k)
      sum[k] += part * (k == column ? tap.columns.near : k == column + 1 ? tap.columns.far : T(0));
  });
  bool any = false;
  for (int k = 0; k < kTile; ++k) {
    any = any || sum[k] != T(0);
    weights[k] = sum[k];
  }
  return any;
}

// Loads the gradient of some bins: adjacent threads read adjacent bins, or adjacent channels if the
// layout is channels-last. What is not there is not used.
template <class S>
__device__ void load_grads(const RoiAlignRotatedBackwardParams& b, const HitBin* hits, int count,
                           int64_t base, int64_t c0, arithmetic_t<S>* grads) {
  const RoiAlignRotatedParams& p = b.forward;
  constexpr int all = kAtOnce * kChannels;
  const int64_t bins = int64_t(p.out_height) * p.out_width;
  const int64_t bin_step = p.channels_last ? p.channels : 1;
  const int64_t channel_step = p.channels_last ? 1 : bins;
  const S* from = static_cast<const S*>(b.grad_out) + base * p.channels * bins + c0 * channel_step;
  const int channels = p.channels - c0 < kChannels ? int(p.channels - c0) : kChannels;
#pragma unroll 2
  for (int i = threadIdx.x; i < all; i += kThreads) {
    const int hit = p.channels_last ? i / kChannels : i % kAtOnce;
    const int channel = p.channels_last ? i % kChannels : i / kAtOnce;
    const HitBin of = hits[hit < count ? hit : 0];
    const S grad = from[of.region * (p.channels * bins) + of.bin * bin_step +
                        (channel < channels ? channel : 0) * channel_step];
    grads[hit * kBinStride + channel] = widen(grad);
  }
}

// Adds the bins that have a weight in the warp's row to its pixels.
template <class T>
__device__ void add_bins(const Shared<T>& shared, int count, T (&sum)[kChannelsPerLane][kTile]) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32;
  constexpr int together = 16 / int(sizeof(T));
  unsigned hits = __ballot_sync(kAllLanes, lane < count && shared.used[row][lane]);
  for (; hits; hits &= hits - 1) {
    const int h = __ffs(int(hits)) - 1;
    T weight[kTile], grad[kChannelsPerLane];
    for (int k = 0; k < kTile; k += together) {
      const auto some = load_wide<together>(&shared.weights[h][row][k]);
      for (int j = 0; j < together; ++j) weight[k + j] = some.v[j];
    }
    for (int n = 0; n < kChannelsPerLane; ++n)
      grad[n] = shared.grads[h * kBinStride + n * 32 + lane];
    for (int k = 0; k < kTile; ++k)
      for (int n = 0; n < kChannelsPerLane; ++n)  // 0 times an infinite gradient is NaN
        sum[n][k] = weight[k] != T(0) ? multiply_add(weight[k], grad[n], sum[n][k]) : sum[n][k];
  }
}

// Stores a row's sums. wide: planar rows begin at multiples of 16 bytes.
template <class T>
__device__ void store_sums(const RoiAlignRotatedBackwardParams& b, const Place& place, int64_t c0,
                           bool wide, const T (&sum)[kChannelsPerLane][kTile]) {
  const RoiAlignRotatedParams& p = b.forward;
  constexpr int together = 16 / int(sizeof(T));
  const int64_t y = place.y + threadIdx.x / 32, plane = p.height * p.width;
  if (y >= p.height) return;
  T* out = static_cast<T*>(b.grad_input) + place.image * p.channels * plane;
  for (int n = 0; n < kChannelsPerLane; ++n) {
    const int64_t c = c0 + n * 32 + threadIdx.x % 32, pixel = y * p.width + place.x;
    for (int k = 0; k < kTile; k += together) {
      if (wide) {
        Wide<T, together> some;
        for (int j = 0; j < together; ++j) some.v[j] = sum[n][k + j];
        if (c < p.channels && place.x + k < p.width) store_wide(out + c * plane + pixel + k, some);
      } else {
        for (int j = k; j < k + together; ++j)
          if (c < p.channels && place.x + j < p.width)
            out[p.channels_last ? (pixel + j) * p.channels + c : c * plane + pixel + j] = sum[n][j];
      }
    }
  }
}

template <class S>
__global__ __launch_bounds__(kThreads, sizeof(arithmetic_t<S>) == 8 ? 1 : 2) void backward_kernel(
    RoiAlignRotatedBackwardParams b, const RotatedRoi<arithmetic_t<S>>* rois, int64_t tiles,
    int64_t channel_blocks, bool wide) {
  using T = arithmetic_t<S>;
  __shared__ Shared<T> shared;
  const RoiAlignRotatedParams& p = b.forward;
  const int64_t bins = int64_t(p.out_height) * p.out_width;

  for (int64_t unit = blockIdx.x; unit < tiles * channel_blocks; unit += gridDim.x) {
    const Place place(p, unit / channel_blocks);
    const int64_t c0 = unit % channel_blocks * kChannels;
    T sum[kChannelsPerLane][kTile];
    for (int n = 0; n < kChannelsPerLane; ++n)
      for (int k = 0; k < kTile; ++k) sum[n][k] = T(0);

    for (int64_t base = 0; base < p.n; base += kThreads) {
      const int64_t own = base + threadIdx.x;
      const bool hit = own < p.n && place.reached_by(p, rois[own], own);
      uint32_t total;
      const uint32_t at = exclusive_count(hit, total);
      if (hit) shared.regions[at] = threadIdx.x;
      __syncthreads();
      const int64_t candidates = total * bins;
      for (int64_t q = 0; q < candidates; q += kThreads) {
        const bool there = q + threadIdx.x < candidates;
        int64_t bin, bx;
        const int region = shared.regions[divide(there ? q + threadIdx.x : 0, bins, bin)];
        const int64_t by = divide(bin, p.out_width, bx);
        const bool reaches =
            there && rois[base + region].bin_reaches(place.template area<T>(), by, bx);
        uint32_t found;
        const uint32_t to = exclusive_count(reaches, found);
        if (reaches) shared.bins[to] = {region, bin};
        __syncthreads();
        for (int first = 0; first < int(found); first += kAtOnce) {
          const HitBin* hits = shared.bins + first;
          const int count = int(found) - first < kAtOnce ? int(found) - first : kAtOnce;
          const int h = threadIdx.x / kTile, row = threadIdx.x % kTile;
          load_grads<S>(b, hits, count, base, c0, shared.grads);
          if (h < count)
            shared.used[row][h] = weigh(p, rois[base + hits[h].region], hits[h].bin, place, row,
                                        shared.weights[h][row]);
          __syncthreads();
          add_bins(shared, count, sum);
          __syncthreads();  // before the next bins overwrite these
        }
      }
      __syncthreads();  // before the next batch overwrites the regions
    }
    store_sums(b, place, c0, wide, sum);
  }
}

}  // namespace

Status roi_align_rotated_backward_cuda(const RoiAlignRotatedBackwardParams& b, Stream stream) {
  const RoiAlignRotatedParams& p = b.forward;
  const int64_t tiles =
      p.images * ((p.height + kTile - 1) / kTile) * ((p.width + kTile - 1) / kTile);
  const int64_t channel_blocks = (p.channels + kChannels - 1) / kChannels;
  const LaunchShape shape{blocks_for(tiles * channel_blocks, 1), kThreads};
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    const Status status = compute_geometry<T>(p, stream);
    if (!status) return status;
    const bool wide =
        !p.channels_last && p.width % (16 / int64_t(sizeof(T))) == 0 && aligned_to_16(b.grad_input);
    return launch(backward_kernel<S>, shape, stream, b,
                  static_cast<const RotatedRoi<T>*>(p.workspace), tiles, channel_blocks, wide);
  });
}

}  // namespace detcore
