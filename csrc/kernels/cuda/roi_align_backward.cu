// Backward of roi_align and multiscale_roi_align. A block owns a tile of 8 x 8 pixels of one
// image's map, for some channels, and keeps its sums in registers. So there are no atomics, and
// every run gives the same bits. The block processes the regions in order, one batch at a time:
//   1. find the regions that reach the tile
//   2. compute the weights of each bin for each row and column of the tile
//   3. for each region: load the gradient of its bins into shared memory (whole sectors, one region
//      ahead), and let every thread add what the bins give to its pixel
#include "block_scan.cuh"
#include "launch.cuh"
#include "roi_axis.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 8;             // pixels per side
constexpr int kGroups = 32 / kTile;  // threads that share a pixel
constexpr int kChannelsPerThread = 8;
constexpr int kChannels = kGroups * kChannelsPerThread;  // per block
constexpr int kFewSamples = 4;                 // per bin and axis: up to this number we check all
constexpr int kWindow = 8;                     // bins per axis at once
constexpr int kHits = kThreads / (2 * kTile);  // regions whose weights are stored at once

// The stride from bin to bin in shared memory, padded so that adjacent bins use different banks.
constexpr int kBinStride = kChannels + 4;

template <class S>
constexpr int kBlocks =
    sizeof(S) == 8 ? 2 : 3;  // per multiprocessor, limited by registers and shared memory

// The weights of bin b for the tile's pixels along an axis; the first is pixel `tile`.
template <class T>
__device__ void weigh_bin(const RoiAxis<T>& axis, int32_t b, int64_t tile, T* weights) {
  for (int k = 0; k < kTile; ++k) weights[k] = T(0);
  int64_t first = 0, last = axis.samples;
  if (last > kFewSamples) {
    // only the samples within one pixel of the tile matter; this also holds for samples up to one
    // pixel outside the map, which belong to the first or last pixel
    const T step = axis.bin / T(axis.samples), from = axis.start + T(b) * axis.bin;
    axis.inside(b, first, last);
    if (step > T(0)) {
      const T low = (T(tile - 1) - from) / step - T(2);
      const T high = (T(tile + kTile) - from) / step + T(2);
      if (low > T(first)) first = low < T(last) ? int64_t(low) : last;
      if (high < T(last)) last = high > T(first) ? int64_t(high) : first;
    }
  }
  const T share = axis.weight();
  const int32_t size = int32_t(axis.size), begin = int32_t(tile);
  for (int64_t s = first; s < last; ++s) {
    Tap<T, int32_t> tap{0, T(0), T(0)};
    if (make_tap(axis.position(int64_t(b), s), size, tap)) {
      const int32_t at = tap.low - begin;
      if (at >= 0 && at < kTile) weights[at] += tap.near * share;
      if (at >= -1 && at < kTile - 1) weights[at + 1] += tap.far * share;
    }
  }
}

// True if samples between the edges `low` and `high` of a region can reach the tile that begins at
// pixel `tile`.
template <class T>
__device__ bool reaches(T low, T high, T scale, bool aligned, int64_t tile) {
  const T offset = aligned ? T(0.5) : T(0);
  T start = low * scale - offset, end = high * scale - offset;
  if (!aligned && end < start + T(1)) end = start + T(1);
  const T from = start < end ? start : end, to = start < end ? end : start;
  const T slack = T(1.01) + (to - from) * T(1e-3);  // one pixel, plus rounding errors
  return to + slack >= T(tile) && from - slack <= T(tile + kTile);
}

// The tiles of all levels, sorted by level, then by image, row and column.
struct Tiles {
  int64_t first[kMostLevels + 1];
  int64_t rows[kMostLevels], columns[kMostLevels];
  int64_t channel_blocks;

  explicit Tiles(const RoiAlignParams& p)
      : channel_blocks((p.channels + kChannels - 1) / kChannels) {
    first[0] = 0;
    for (int l = 0; l < p.level_count; ++l) {
      rows[l] = (p.levels[l].height + kTile - 1) / kTile;
      columns[l] = (p.levels[l].width + kTile - 1) / kTile;
      first[l + 1] = first[l] + p.images * rows[l] * columns[l];
    }
  }
};

// The position of a tile.
struct Place {
  int level;
  int64_t image, y, x;  // y and x: the first pixel

  __device__ Place(const Tiles& tiles, int64_t tile) : level(0) {
    while (tile >= tiles.first[level + 1]) ++level;
    tile -= tiles.first[level];
    x = tile % tiles.columns[level] * kTile;
    y = tile / tiles.columns[level] % tiles.rows[level] * kTile;
    image = tile / (tiles.columns[level] * tiles.rows[level]);
  }
  template <class T>
  __device__ bool reached_by(const RoiAlignParams& p, const T* roi) const {
    const T scale = T(p.levels[level].spatial_scale);
    return image_of(p, roi) == image && level_of(p, roi) == level &&
           reaches(roi[2], roi[4], scale, p.aligned, y) &&
           reaches(roi[1], roi[3], scale, p.aligned, x);
  }
};

// The weights of the window's bins, by region, axis and pixel of the tile. Only the bins from
// `first` to `last` can have a weight other than 0.
template <class T>
struct Weights {
  T of[kHits][2][kWindow][kTile];
  int8_t first[kHits][2][kTile], last[kHits][2][kTile];
};

// First one thread per region, axis and bin, then one thread per region, axis and pixel.
template <class T>
__device__ void weigh(const RoiAlignParams& p, const Place& place, const int* hits, int count,
                      int64_t base, int by0, int bx0, Weights<T>& weights) {
  const int bins[2] = {p.out_height - by0 < kWindow ? p.out_height - by0 : kWindow,
                       p.out_width - bx0 < kWindow ? p.out_width - bx0 : kWindow};
  for (int i = threadIdx.x; i < count * 2 * kWindow; i += kThreads) {
    const int b = i % kWindow, axis = i / kWindow % 2, hit = i / (2 * kWindow);
    const T* roi = static_cast<const T*>(p.rois) + 5 * (base + hits[hit]);
    if (b < (axis ? bins[1] : bins[0]))
      weigh_bin(axis_of(p, roi, place.level, axis == 1), (axis ? bx0 : by0) + b,
                axis ? place.x : place.y, weights.of[hit][axis][b]);
  }
  __syncthreads();
  const int pixel = threadIdx.x % kTile, axis = threadIdx.x / kTile % 2;
  const int hit = threadIdx.x / (2 * kTile);
  if (hit >= count) return;
  int first = kWindow, last = 0;
  for (int b = 0; b < (axis ? bins[1] : bins[0]); ++b) {
    const bool some = weights.of[hit][axis][b][pixel] != T(0);
    first = some && first == kWindow ? b : first;
    last = some ? b + 1 : last;
  }
  weights.first[hit][axis][pixel] = int8_t(first);
  weights.last[hit][axis][pixel] = int8_t(last);
}

// Adds the contribution of a region's bins to one pixel, for the channels from `grads` on.
template <class T>
__device__ void add_region(const Weights<T>& weights, int h, int py, int px, const T* grads,
                           T (&sum)[kChannelsPerThread]) {
  constexpr int together = 16 / int(sizeof(T));
  for (int y = weights.first[h][0][py]; y < weights.last[h][0][py]; ++y)
    for (int x = weights.first[h][1][px]; x < weights.last[h][1][px]; ++x) {
      const T weight = weights.of[h][0][y][py] * weights.of[h][1][x][px];
      if (weight != T(0)) {  // because 0 times an infinite gradient is NaN
        const T* from = grads + (y * kWindow + x) * kBinStride;
        for (int c = 0; c < kChannelsPerThread; c += together) {
          const auto g = load_wide<together>(from + c);
          for (int k = 0; k < together; ++k) sum[c + k] = multiply_add(weight, g.v[k], sum[c + k]);
        }
      }
    }
}

// Copies the gradient of a window of bins to shared memory, region by region. Adjacent threads read
// adjacent bins, or adjacent channels if the layout is channels-last.
template <class S>
struct Loader {
  static constexpr int kLoads = kWindow * kWindow * kChannels / kThreads;
  const S* from;  // this thread's first value of region 0
  int64_t step, region_step;
  int count, to, to_step;

  // rows, columns: size of the window, whose first bin is by0, bx0. channels: number of the block's
  // channels, from c0 on.
  __device__ Loader(const RoiAlignBackwardParams& p, int by0, int bx0, int rows, int columns,
                    int64_t c0, int channels) {
    const RoiAlignParams& f = p.forward;
    const int64_t bins = int64_t(f.out_height) * f.out_width;
    const int t = threadIdx.x;
    constexpr int window = kWindow * kWindow, apart = kThreads / window;
    const bool last = f.channels_last;
    const int bx = last ? t / kChannels : t % kWindow, by = last ? 0 : t % window / kWindow;
    const int channel = last ? t % kChannels : t / window;
    to = (by * kWindow + bx) * kBinStride + channel;
    to_step = last ? kWindow * kBinStride : apart;
    count = last ? rows : (channels - channel + apart - 1) / apart;
    const bool any = by < rows && bx < columns && channel < channels;
    if (!any) count = 1;
    const int64_t bin = int64_t(by0 + (any ? by : 0)) * f.out_width + bx0 + (any ? bx : 0);
    const int64_t c = c0 + (any ? channel : 0);
    from = static_cast<const S*>(p.grad_out) + (last ? bin * f.channels + c : c * bins + bin);
    step = last ? f.out_width * f.channels : apart * bins;
    region_step = f.channels * bins;
  }
  // A thread with fewer values than kLoads reads its last one again; no bin uses the copies.
  __device__ void load(int64_t region, S (&values)[kLoads]) const {
    const S* at = from + region * region_step;
    for (int k = 0; k < kLoads; ++k) {
      values[k] = *at;
      at += k + 1 < count ? step : 0;
    }
  }
  __device__ void store(const S (&values)[kLoads], arithmetic_t<S>* grads) const {
    for (int k = 0; k < kLoads; ++k) grads[to + k * to_step] = widen(values[k]);
  }
};

// Stores a pixel's sums for some channels in the gradient of the map.
template <class T>
__device__ void store_sums(const RoiAlignBackwardParams& p, const Place& place, int py, int px,
                           int64_t c0, const T (&sum)[kChannelsPerThread], bool wide) {
  const RoiAlignParams& f = p.forward;
  const int64_t y = place.y + py, x = place.x + px;
  const int64_t height = f.levels[place.level].height, width = f.levels[place.level].width;
  if (y >= height || x >= width) return;
  T* out = static_cast<T*>(p.grad_inputs[place.level]) + place.image * f.channels * height * width +
           (f.channels_last ? (y * width + x) * f.channels + c0 : (c0 * height + y) * width + x);
  const int64_t step = f.channels_last ? 1 : height * width;
  constexpr int together = 16 / int(sizeof(T));
  for (int c = 0; c < kChannelsPerThread; c += together) {
    if (wide) {
      Wide<T, together> some;
      for (int k = 0; k < together; ++k) some.v[k] = sum[c + k];
      if (c0 + c < f.channels) store_wide(out + c, some);
    } else {
      for (int k = c; k < c + together; ++k)
        if (c0 + k < f.channels) out[k * step] = sum[k];
    }
  }
}

template <class S, int blocks_an_sm>
__global__ __launch_bounds__(kThreads, blocks_an_sm) void backward_kernel(RoiAlignBackwardParams p,
                                                                          Tiles tiles, bool wide) {
  using T = arithmetic_t<S>;
  __shared__ int hits[kThreads];  // regions of this batch that reach the tile, in ascending order
  __shared__ Weights<T> weights;
  alignas(16) __shared__ T grads[kWindow * kWindow * kBinStride];
  const RoiAlignParams& f = p.forward;
  // one warp per row of the tile, so that all its lanes use the same rows of bins
  const int px = threadIdx.x % kTile, py = threadIdx.x / 32;
  const int own = threadIdx.x / kTile % kGroups * kChannelsPerThread;  // the first channel

  for (int64_t unit = blockIdx.x; unit < tiles.first[f.level_count] * tiles.channel_blocks;
       unit += gridDim.x) {
    const Place place(tiles, unit / tiles.channel_blocks);
    const int64_t c0 = unit % tiles.channel_blocks * kChannels;
    const int channels = f.channels - c0 < kChannels ? int(f.channels - c0) : kChannels;
    T sum[kChannelsPerThread];
    for (int k = 0; k < kChannelsPerThread; ++k) sum[k] = T(0);

    for (int64_t base = 0; base < f.n; base += kThreads) {
      const bool hit =
          base + threadIdx.x < f.n &&
          place.reached_by(f, static_cast<const T*>(f.rois) + 5 * (base + threadIdx.x));
      uint32_t total;
      const uint32_t at = exclusive_count(hit, total);
      if (hit) hits[at] = threadIdx.x;
      __syncthreads();
      for (int h0 = 0; h0 < int(total); h0 += kHits) {
        const int count = int(total) - h0 < kHits ? int(total) - h0 : kHits;
        for (int by0 = 0; by0 < f.out_height; by0 += kWindow)
          for (int bx0 = 0; bx0 < f.out_width; bx0 += kWindow) {
            const int rows = f.out_height - by0 < kWindow ? f.out_height - by0 : kWindow;
            const int columns = f.out_width - bx0 < kWindow ? f.out_width - bx0 : kWindow;
            const Loader<S> loader(p, by0, bx0, rows, columns, c0, channels);
            S values[Loader<S>::kLoads];  // of the next region, loaded while the current one is
                                          // used
            loader.load(base + hits[h0], values);
            weigh(f, place, hits + h0, count, base, by0, bx0, weights);
            for (int h = 0; h < count; ++h) {
              __syncthreads();  // every thread has used the last region
              loader.store(values, grads);
              __syncthreads();
              loader.load(base + hits[h0 + (h + 1 < count ? h + 1 : h)], values);
              add_region(weights, h, py, px, grads + own, sum);
            }
            __syncthreads();  // before the next weights overwrite these
          }
      }
    }
    store_sums(p, place, py, px, c0 + own, sum, wide);
  }
}

}  // namespace

Status roi_align_backward_cuda(const RoiAlignBackwardParams& p, Stream stream) {
  const RoiAlignParams& f = p.forward;
  const Tiles tiles(f);
  const LaunchShape shape{blocks_for(tiles.first[f.level_count] * tiles.channel_blocks, 1),
                          kThreads};
  return with_storage(f.dtype, [&](auto storage) {
    using S = decltype(storage);
    bool wide = f.channels_last && f.channels % (16 / int(sizeof(arithmetic_t<S>))) == 0;
    for (int l = 0; l < f.level_count; ++l) wide = wide && aligned_to_16(p.grad_inputs[l]);
    return launch(backward_kernel<S, kBlocks<S>>, shape, stream, p, tiles, wide);
  });
}

}  // namespace detcore
