// Forward of roi_align and multiscale_roi_align, with any number of samples per bin. A block pools
// one region into a window of bins, for some channels. The weights are separable, so two warps list
// the pixels and weights of each row and column of bins once, in shared memory, and all threads use
// the lists. Pixels that several samples share are read once. Adjacent threads have adjacent bins,
// or 16 bytes of channels each if the layout is channels-last.
#pragma once

#include "launch.cuh"
#include "roi_axis.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {  // used by roi_align.cu only

constexpr int kListThreads = 128;
constexpr int kWindow = 32;                        // bins per axis; each lane lists one
constexpr int kTaps = 512;                         // per axis, for all bins of the window
constexpr int64_t kEnoughBlocks = 1024;            // to fill a large device
constexpr int kMostChannels = 64;                  // per block
constexpr int64_t kLeastItems = 2 * kListThreads;  // with fewer, the lists cost more than they save

// One pixel of a bin along an axis, and its weight.
template <class T>
struct BinTap {
  T weight;
  int32_t pixel;
};

// Adds a pixel to a bin's list. Adjacent samples can share a pixel, which is then one of the last
// two in the list.
template <class T>
__device__ void add_tap(BinTap<T>* taps, int& count, int64_t pixel, T weight) {
  if (weight == T(0)) return;  // the pixel may be past the edge
  for (int k = count - 1; k >= 0 && k >= count - 2; --k)
    if (taps[k].pixel == pixel) {
      taps[k].weight += weight;
      return;
    }
  taps[count++] = {weight, int32_t(pixel)};
}

// Makes the list of bin b and returns its length. The weights are scaled for the mean.
template <class T>
__device__ int list_taps(const RoiAxis<T>& axis, int64_t b, BinTap<T>* taps) {
  int64_t first, last;
  axis.inside(b, first, last);
  int count = 0;
  const T share = axis.weight();
  for (int64_t s = first; s < last; ++s) {
    Tap<T> tap;
    if (!make_tap(axis.position(b, s), axis.size, tap)) continue;
    add_tap(taps, count, tap.low, tap.near * share);
    add_tap(taps, count, tap.low + 1, tap.far * share);
  }
  return count;
}

// How the work is divided into blocks: by regions, windows of bins, channels; channels vary
// fastest.
struct Blocks {
  int64_t rows, columns;  // windows per region
  int64_t channel_blocks;
  int channels, window;  // limits per block
  int pitch;             // taps per bin

  // Each sample uses two pixels.
  template <class T>
  __device__ bool fit(const RoiAxis<T>& axis) const {
    return 2 * axis.samples <= pitch;
  }
};

// Adds what a bin takes from its pixels: each row of taps first, then the rows by their weights.
template <int kWide, class S, class T>
__device__ void add_taps(const BinTap<T>* ys, int rows, const BinTap<T>* xs, int columns,
                         const S* map, int64_t width, int64_t step, T (&sum)[kWide]) {
  for (int y = 0; y < rows; ++y) {
    const S* row = map + ys[y].pixel * width * step;
    T row_sum[kWide];
    for (int k = 0; k < kWide; ++k) row_sum[k] = T(0);
    for (int x = 0; x < columns; ++x) {
      const auto values = load_wide<kWide>(row + xs[x].pixel * step);
      for (int k = 0; k < kWide; ++k)
        row_sum[k] = multiply_add(xs[x].weight, widen(values.v[k]), row_sum[k]);
    }
    for (int k = 0; k < kWide; ++k) sum[k] = multiply_add(ys[y].weight, row_sum[k], sum[k]);
  }
}

template <class S, int kWide>
__global__ void forward_kernel(RoiAlignParams p, Blocks blocks) {
  using T = arithmetic_t<S>;
  __shared__ BinTap<T> taps[2][kTaps];
  __shared__ int counts[2][kWindow];
  __shared__ bool fits[2];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t windows = blocks.rows * blocks.columns;
  for (int64_t unit = blockIdx.x; unit < p.n * windows * blocks.channel_blocks; unit += gridDim.x) {
    const int64_t channel0 = unit % blocks.channel_blocks * blocks.channels;
    const int64_t window = unit / blocks.channel_blocks % windows;
    const int64_t roi = unit / blocks.channel_blocks / windows;
    const int by0 = int(window / blocks.columns) * blocks.window;
    const int bx0 = int(window % blocks.columns) * blocks.window;
    const int rows = p.out_height - by0 < blocks.window ? p.out_height - by0 : blocks.window;
    const int columns = p.out_width - bx0 < blocks.window ? p.out_width - bx0 : blocks.window;
    const int channels =
        p.channels - channel0 < blocks.channels ? int(p.channels - channel0) : blocks.channels;
    const T* r = static_cast<const T*>(p.rois) + 5 * roi;
    const int level = level_of(p, r);
    const int64_t image = image_of(p, r);

    __syncthreads();  // every thread has read the last unit's lists
    if (warp < 2) {
      const RoiAxis<T> axis = axis_of(p, r, level, warp == 1);
      const bool fit = blocks.fit(axis);
      const bool listed = lane < (warp == 1 ? columns : rows) && fit && image >= 0;
      counts[warp][lane] =
          listed ? list_taps(axis, (warp == 1 ? bx0 : by0) + lane, taps[warp] + lane * blocks.pitch)
                 : 0;
      if (lane == 0) fits[warp] = fit;
    }
    __syncthreads();
    if (!fits[0] || !fits[1]) continue;

    const int64_t height = p.levels[level].height, width = p.levels[level].width;
    const int64_t step = p.channels_last ? p.channels : 1;       // from pixel to pixel
    const int64_t plane = p.channels_last ? 1 : height * width;  // from channel to channel
    const int64_t bins = int64_t(p.out_height) * p.out_width;
    const S* map = static_cast<const S*>(p.levels[level].map) +
                   (image < 0 ? 0 : image) * p.channels * height * width + channel0 * plane;
    S* out =
        static_cast<S*>(p.out) + roi * p.channels * bins + channel0 * (p.channels_last ? 1 : bins);
    // an item is a bin and a channel group; the inner index is the one contiguous in memory
    const int inner = p.channels_last ? channels / kWide : rows * columns;
    const int outer = p.channels_last ? rows * columns : channels / kWide;
    const int outer_step = kListThreads / inner, inner_step = kListThreads % inner;
    const int row_magic = 65536 / columns + 1;  // exact for 32 x 32 bins
    int o = threadIdx.x / inner, i = threadIdx.x % inner;
    for (; o < outer; o += outer_step, i += inner_step) {
      if (i >= inner) i -= inner, ++o;
      if (o >= outer) break;
      const int b = p.channels_last ? o : i, c = (p.channels_last ? i : o) * kWide;
      const int by = b * row_magic >> 16, bx = b - by * columns;
      const S* from = map + c * plane;
      T sum[kWide];
      for (int k = 0; k < kWide; ++k) sum[k] = T(0);
      add_taps<kWide>(taps[0] + by * blocks.pitch, counts[0][by], taps[1] + bx * blocks.pitch,
                      counts[1][bx], from, width, step, sum);
      Wide<S, kWide> to;
      for (int k = 0; k < kWide; ++k) narrow(sum[k], to.v[k]);
      const int64_t bin = int64_t(by0 + by) * p.out_width + bx0 + bx;
      store_wide(out + (p.channels_last ? bin * p.channels + c : c * bins + bin), to);
    }
  }
}

template <class S, int kWide>
__device__ void pool_directly(const RoiAxis<arithmetic_t<S>>& rows,
                              const RoiAxis<arithmetic_t<S>>& columns, int64_t by, int64_t bx,
                              const S* map, int64_t step, arithmetic_t<S> (&sum)[kWide]) {
  using T = arithmetic_t<S>;
  int64_t y0, y1, x0, x1;
  rows.inside(by, y0, y1);
  columns.inside(bx, x0, x1);
  for (int64_t sy = y0; sy < y1; ++sy) {
    Tap<T> ty;
    if (!make_tap(rows.position(by, sy), rows.size, ty)) continue;
    for (int64_t sx = x0; sx < x1; ++sx) {
      Tap<T> tx;
      if (!make_tap(columns.position(bx, sx), columns.size, tx)) continue;
      for (int corner = 0; corner < 4; ++corner) {
        const T wy = corner & 2 ? ty.far : ty.near, wx = corner & 1 ? tx.far : tx.near;
        if (wy == T(0) || wx == T(0)) continue;  // the pixel may be past the edge
        const int64_t pixel = (ty.low + (corner >> 1)) * columns.size + tx.low + (corner & 1);
        const auto from = load_wide<kWide>(map + pixel * step);
        for (int k = 0; k < kWide; ++k) sum[k] += wy * wx * widen(from.v[k]);
      }
    }
  }
  for (int k = 0; k < kWide; ++k) sum[k] *= rows.weight() * columns.weight();
}

// For the regions whose lists don't fit: computes every sample of a bin by itself. Several blocks
// share a region.
template <class S, int kWide>
__global__ void direct_kernel(RoiAlignParams p, Blocks blocks, int64_t shares) {
  using T = arithmetic_t<S>;
  const int64_t bins = int64_t(p.out_height) * p.out_width, groups = p.channels / kWide;
  for (int64_t unit = blockIdx.x; unit < p.n * shares; unit += gridDim.x) {
    const int64_t roi = unit / shares;
    const T* r = static_cast<const T*>(p.rois) + 5 * roi;
    const int level = level_of(p, r);
    const RoiAxis<T> rows = axis_of(p, r, level, false), columns = axis_of(p, r, level, true);
    const int64_t image = image_of(p, r), plane = rows.size * columns.size;
    if (blocks.fit(rows) && blocks.fit(columns)) continue;
    const int64_t step = p.channels_last ? p.channels : 1;
    const S* map =
        static_cast<const S*>(p.levels[level].map) + (image < 0 ? 0 : image) * p.channels * plane;
    S* out = static_cast<S*>(p.out) + roi * p.channels * bins;
    for (int64_t i = unit % shares * kListThreads + threadIdx.x; i < bins * groups;
         i += shares * kListThreads) {
      const int64_t bin = p.channels_last ? i / groups : i % bins;
      const int64_t c = (p.channels_last ? i % groups : i / bins) * kWide;
      T sum[kWide];
      for (int k = 0; k < kWide; ++k) sum[k] = T(0);
      if (image >= 0)
        pool_directly<S, kWide>(rows, columns, bin / p.out_width, bin % p.out_width,
                                map + c * (p.channels_last ? 1 : plane), step, sum);
      Wide<S, kWide> to;
      for (int k = 0; k < kWide; ++k) narrow(sum[k], to.v[k]);
      store_wide(out + (p.channels_last ? bin * p.channels + c : c * bins + bin), to);
    }
  }
}

// If there are few regions, the channels are divided too, so that the blocks fill the device.
Blocks blocks_of(const RoiAlignParams& p, int wide) {
  Blocks b{};
  const int larger = p.out_height > p.out_width ? p.out_height : p.out_width;
  b.window = larger < kWindow ? larger : kWindow;
  b.rows = (p.out_height + b.window - 1) / b.window;
  b.columns = (p.out_width + b.window - 1) / b.window;
  b.channels = kMostChannels;
  const auto parts = [&] { return (p.channels + b.channels - 1) / b.channels; };
  while (b.channels / 2 >= wide && p.n * b.rows * b.columns * parts() < kEnoughBlocks &&
         int64_t(b.window) * b.window * b.channels / wide > kLeastItems)
    b.channels /= 2;
  b.channel_blocks = parts();
  b.pitch = kTaps / b.window;
  return b;
}

template <class S, int kWide>
Status pool_by_lists(const RoiAlignParams& p, Stream stream) {
  const Blocks blocks = blocks_of(p, kWide);
  const int64_t units = p.n * blocks.rows * blocks.columns * blocks.channel_blocks;
  Status status =
      launch(forward_kernel<S, kWide>, {blocks_for(units, 1), kListThreads}, stream, p, blocks);
  // with a fixed sampling ratio we know here that all lists fit
  if (!status || (p.sampling_ratio > 0 && p.sampling_ratio <= blocks.pitch / 2)) return status;
  const int64_t items = p.out_height * (p.out_width * p.channels / kWide);
  int64_t shares = kEnoughBlocks / (p.n + 1) + 1;
  if (shares * kListThreads > items) shares = items / kListThreads + 1;
  return launch(direct_kernel<S, kWide>, {blocks_for(p.n * shares, 1), kListThreads}, stream, p,
                blocks, shares);
}

}  // namespace
}  // namespace detcore
