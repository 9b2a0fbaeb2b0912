// Backward of roi_pool. A block owns a tile of pixels of one image's map, for some channels, and
// keeps its sums in registers. So there are no atomics, and every run gives the same bits. The
// block goes through the regions in order, one batch at a time:
//   1. find the regions that reach the tile
//   2. find the bins that cover each row and each column of the tile
//   3. for each region: every thread takes the gradient of those bins that its pixel is the
//      maximum of
// The threads of a warp share a row of the tile, and with it the rows of bins.
#include "detcore/roi_pool.h"

#include "block_scan.cuh"
#include "launch.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kChannelsPerThread = 8;
constexpr int kHits = 16;  // regions whose bins are stored at once

// What a block owns. Of a contiguous map a lane has a pixel, of a channels-last map some channels.
template <bool kLast>
struct Shape {
  static constexpr int rows = kLast ? 1 : kWarps;
  static constexpr int columns = kLast ? kWarps : 32;
  static constexpr int channels = kChannelsPerThread * (kLast ? 32 : 1);
  static constexpr int channel_step = kLast ? 32 : 1;  // from a thread's channel to its next
};

// The bins [first, last) that cover a pixel, for the rows and then the columns of the tile.
template <bool kLast>
struct Covers {
  int32_t first[kHits][Shape<kLast>::rows + Shape<kLast>::columns];
  int32_t last[kHits][Shape<kLast>::rows + Shape<kLast>::columns];
};

// The number of bins of which `before(b)` holds: it holds of the first ones, and then of none.
template <class F>
__device__ int32_t count_bins(int32_t bins, const F& before) {
  int32_t count = 0, step = 1 << (31 - __clz(bins));
  for (; step > 0; step /= 2) {
    const int64_t more = int64_t(count) + step;
    count += more <= bins && before(more - 1) ? step : 0;
  }
  return count;
}

// The position of a tile.
template <bool kLast>
struct Place {
  int64_t image, y, x;

  __device__ Place(const RoiPoolParams& p, int64_t tile) {
    const int64_t down = (p.height + Shape<kLast>::rows - 1) / Shape<kLast>::rows;
    const int64_t across = (p.width + Shape<kLast>::columns - 1) / Shape<kLast>::columns;
    x = tile % across * Shape<kLast>::columns;
    y = tile / across % down * Shape<kLast>::rows;
    image = tile / across / down;
  }
  template <class T>
  __device__ bool reached_by(const RoiPoolParams& p, const T* roi) const {
    const RoiBins<T> rows = row_bins(p, roi), columns = column_bins(p, roi);
    return roi[0] > T(-1) && roi[0] < T(p.images) && int64_t(roi[0]) == image &&
           rows.begin(0) < y + Shape<kLast>::rows && rows.end(p.out_height - 1) > y &&
           columns.begin(0) < x + Shape<kLast>::columns && columns.end(p.out_width - 1) > x;
  }
};

template <class T, bool kLast>
__device__ void find_covers(const RoiPoolParams& p, const Place<kLast>& place, const int* hits,
                            int count, int64_t base, Covers<kLast>& covers) {
  constexpr int rows = Shape<kLast>::rows, lines = rows + Shape<kLast>::columns;
  for (int i = threadIdx.x; i < count * lines; i += kThreads) {
    const int hit = i / lines, line = i % lines;
    const bool down = line < rows;
    const T* roi = roi_of<T>(p, base + hits[hit]);
    const RoiBins<T> bins = down ? row_bins(p, roi) : column_bins(p, roi);
    const int32_t all = down ? p.out_height : p.out_width;
    const int64_t pixel = down ? place.y + line : place.x + (line - rows);
    covers.first[hit][line] = count_bins(all, [&](int64_t b) { return bins.end(b) <= pixel; });
    covers.last[hit][line] = count_bins(all, [&](int64_t b) { return bins.begin(b) <= pixel; });
  }
}

// The part of a thread: one pixel, and channels from `c` on.
struct Own {
  int32_t place;           // of the pixel in the plane
  int row, column;         // of the tile
  int64_t at;              // of its first channel in a region
  int64_t bin_step, step;  // from bin to bin, and from channel to channel
  int count;               // of its channels, at least 1

  template <bool kLast>
  __device__ Own(const RoiPoolParams& p, const Place<kLast>& tile, int64_t c, Shape<kLast>) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    row = kLast ? 0 : warp, column = kLast ? warp : lane;
    place = int32_t((tile.y + row) * p.width + tile.x + column);
    bin_step = kLast ? p.channels : 1;
    const int64_t channel_step = kLast ? 1 : int64_t(p.out_height) * p.out_width;
    at = (c < p.channels ? c : 0) * channel_step;
    step = Shape<kLast>::channel_step * channel_step;
    const int64_t left =
        (p.channels - c + Shape<kLast>::channel_step - 1) / Shape<kLast>::channel_step;
    count = left < 1 ? 1 : left < kChannelsPerThread ? int(left) : kChannelsPerThread;
  }
};

template <class S, bool kLast>
__device__ void add_region(const RoiPoolBackwardParams& b, int64_t region, const int32_t* first,
                           const int32_t* last, const Own& own,
                           arithmetic_t<S> (&sum)[kChannelsPerThread]) {
  const RoiPoolParams& p = b.forward;
  const int64_t base = region * p.channels * p.out_height * p.out_width;
  const int32_t* places = p.argmax + base;
  const S* grads = static_cast<const S*>(b.grad_out) + base;
  const int across = Shape<kLast>::rows + own.column;
  const int32_t left = first[across], columns = last[across] - left;
  for (int32_t by = first[own.row]; by < last[own.row]; ++by)
    // as many columns of bins for all lanes as for the one with most
    for (int32_t k = 0; __any_sync(kAllLanes, k < columns); ++k) {
      const bool covers = k < columns;
      int64_t at = (int64_t(by) * p.out_width + (covers ? left + k : 0)) * own.bin_step + own.at;
      int32_t place[kChannelsPerThread];
      S grad[kChannelsPerThread];
      for (int n = 0; n < kChannelsPerThread; ++n) {
        place[n] = places[at], grad[n] = grads[at];
        at += n + 1 < own.count ? own.step : 0;  // past the last channel it reads that again
      }
      for (int n = 0; n < kChannelsPerThread; ++n)
        sum[n] = covers && place[n] == own.place ? sum[n] + widen(grad[n]) : sum[n];
    }
}

template <class S, bool kLast>
__global__ __launch_bounds__(kThreads, sizeof(arithmetic_t<S>) == 8 ? 2 : 3) void backward_kernel(
    RoiPoolBackwardParams b, int64_t tiles, int64_t channel_blocks) {
  using T = arithmetic_t<S>;
  using Of = Shape<kLast>;
  __shared__ int hits[kThreads];  // regions of this batch that reach the tile, in ascending order
  __shared__ Covers<kLast> covers;
  const RoiPoolParams& p = b.forward;
  const int lane = threadIdx.x % 32;

  for (int64_t unit = blockIdx.x; unit < tiles * channel_blocks; unit += gridDim.x) {
    const Place<kLast> tile(p, unit / channel_blocks);
    const int64_t c = unit % channel_blocks * Of::channels + (kLast ? lane : 0);
    const Own own(p, tile, c, Of{});
    T sum[kChannelsPerThread];
    for (int k = 0; k < kChannelsPerThread; ++k) sum[k] = T(0);

    for (int64_t base = 0; base < p.n; base += kThreads) {
      const bool hit =
          base + threadIdx.x < p.n && tile.reached_by(p, roi_of<T>(p, base + threadIdx.x));
      uint32_t total;
      const uint32_t at = exclusive_count(hit, total);
      if (hit) hits[at] = threadIdx.x;
      __syncthreads();
      for (int h0 = 0; h0 < int(total); h0 += kHits) {
        const int count = int(total) - h0 < kHits ? int(total) - h0 : kHits;
        find_covers<T>(p, tile, hits + h0, count, base, covers);
        __syncthreads();
        for (int h = 0; h < count; ++h)
          add_region<S, kLast>(b, base + hits[h0 + h], covers.first[h], covers.last[h], own, sum);
        __syncthreads();  // before the next covers overwrite these
      }
    }
    if (tile.y + own.row < p.height && tile.x + own.column < p.width) {
      const int64_t plane = p.height * p.width;
      T* out = static_cast<T*>(b.grad_input) + tile.image * p.channels * plane;
      for (int k = 0; k < kChannelsPerThread; ++k) {
        const int64_t channel = c + k * Of::channel_step;
        if (channel < p.channels)
          out[kLast ? own.place * p.channels + channel : channel * plane + own.place] = sum[k];
      }
    }
  }
}

template <class S, bool kLast>
Status run(const RoiPoolBackwardParams& b, Stream stream) {
  using Of = Shape<kLast>;
  const RoiPoolParams& p = b.forward;
  const int64_t tiles = p.images * ((p.height + Of::rows - 1) / Of::rows) *
                        ((p.width + Of::columns - 1) / Of::columns);
  const int64_t channel_blocks = (p.channels + Of::channels - 1) / Of::channels;
  return launch(backward_kernel<S, kLast>, {blocks_for(tiles * channel_blocks, 1), kThreads},
                stream, b, tiles, channel_blocks);
}

}  // namespace

Status roi_pool_backward_cuda(const RoiPoolBackwardParams& b, Stream stream) {
  return with_storage(b.forward.dtype, [&](auto storage) {
    using S = decltype(storage);
    return b.forward.channels_last ? run<S, true>(b, stream) : run<S, false>(b, stream);
  });
}

}  // namespace detcore
