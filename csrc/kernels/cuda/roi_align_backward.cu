// roi_align and multiscale_roi_align, backward. A block owns a tile of 8 x 8 pixels of one image's
// map and some channels, in registers: no atomics, and the same bits each run. It takes the regions
// in order, a batch at a time: which of them reach the tile; what each bin takes from each of the
// tile's rows and columns; and then every thread adds up for its pixel, which meets a few bins
// alone.
#include "block_scan.cuh"
#include "launch.cuh"
#include "roi_axis.cuh"
#include "vector_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 8;  // pixels a side
constexpr int kPixels = kTile * kTile;
constexpr int kGroups = kThreads / kPixels;  // threads that share a pixel
constexpr int kChannelsPerThread = 8;
constexpr int kChannels = kGroups * kChannelsPerThread;  // a block
constexpr int kWindow = 16;                              // bins an axis at a time
constexpr int kHits = kThreads / (2 * kTile);            // regions whose weights are held at a time

template <class S>
constexpr int kBlocks =
    sizeof(S) == 8 ? 1 : 3;  // of an SM, as its registers and shared memory allow

// The samples of bin b that can lie within a pixel of `at`.
template <class T>
__device__ void samples_near(const RoiAxis<T>& axis, int64_t b, int64_t at, int64_t& first,
                             int64_t& last) {
  const T step = axis.bin / T(axis.samples), from = axis.start + T(b) * axis.bin;
  axis.inside(b, first, last);
  if (!(step > T(0))) return;
  // the first and the last pixel also take samples from a pixel outside, which is as near
  const T low = (T(at - 1) - from) / step - T(2), high = (T(at + 1) - from) / step + T(2);
  if (low > T(first)) first = low < T(last) ? int64_t(low) : last;
  if (high < T(last)) last = high > T(first) ? int64_t(high) : first;
}

// What bin b takes from pixel `at` of an axis.
template <class T>
__device__ T bin_weight(const RoiAxis<T>& axis, int64_t b, int64_t at) {
  int64_t first, last;
  samples_near(axis, b, at, first, last);
  T sum = T(0);
  for (int64_t s = first; s < last; ++s) {
    Tap<T> tap;
    if (!make_tap(axis.position(b, s), axis.size, tap)) continue;
    if (tap.low == at) sum += tap.near;
    if (tap.low + 1 == at) sum += tap.far;
  }
  return sum * axis.weight();
}

// Whether samples between the edges `low` and `high` of a region can reach pixels from `tile` on.
template <class T>
__device__ bool reaches(T low, T high, T scale, bool aligned, int64_t tile) {
  const T offset = aligned ? T(0.5) : T(0);
  T start = low * scale - offset, end = high * scale - offset;
  if (!aligned && end < start + T(1)) end = start + T(1);
  const T from = start < end ? start : end, to = start < end ? end : start;
  const T slack = T(1.01) + (to - from) * T(1e-3);  // a pixel, and rounding
  return to + slack >= T(tile) && from - slack <= T(tile + kTile);
}

// The tiles of all levels, one level after the other; of one: image, row, column.
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

// Where a tile stands.
struct Place {
  int level;
  int64_t image, y, x;  // of its first pixel

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

// The bins of the window, by region, axis and pixel of the tile: those from `first` to `last` weigh
// something.
template <class T>
struct Weights {
  T of[kHits][2][kWindow][kTile];
  int8_t first[kHits][2][kTile], last[kHits][2][kTile];
};

// A thread a region, axis and pixel.
template <class T>
__device__ void weigh(const RoiAlignParams& p, const Place& place, const int* hits, int count,
                      int64_t base, int by0, int bx0, Weights<T>& weights) {
  const int hit = threadIdx.x / (2 * kTile), axis = threadIdx.x / kTile % 2;
  const int pixel = threadIdx.x % kTile;
  if (hit >= count) return;
  const T* roi = static_cast<const T*>(p.rois) + 5 * (base + hits[hit]);
  const RoiAxis<T> along = axis_of(p, roi, place.level, axis == 1);
  const int bin0 = axis == 1 ? bx0 : by0;
  const int bins = (axis == 1 ? p.out_width : p.out_height) - bin0;
  int first = kWindow, last = 0;
  if (along.samples > 0)
    for (int b = 0; b < kWindow && b < bins; ++b) {
      const T weight = bin_weight(along, bin0 + b, (axis == 1 ? place.x : place.y) + pixel);
      weights.of[hit][axis][b][pixel] = weight;
      if (weight == T(0)) continue;
      if (first == kWindow) first = b;
      last = b + 1;
    }
  weights.first[hit][axis][pixel] = int8_t(first);
  weights.last[hit][axis][pixel] = int8_t(last);
}

template <class S, bool wide, int blocks_an_sm>
__global__ __launch_bounds__(kThreads, blocks_an_sm) void backward_kernel(RoiAlignBackwardParams p,
                                                                          Tiles tiles) {
  using T = arithmetic_t<S>;
  constexpr int group_size = wide ? 16 / int(sizeof(S)) : 1;  // channels an access
  __shared__ int hits[kThreads];  // regions of this batch that reach the tile, in order
  __shared__ Weights<T> weights;
  const RoiAlignParams& f = p.forward;
  const int64_t bins = int64_t(f.out_height) * f.out_width;
  const int64_t step = wide ? f.channels : f.channels_last ? f.channels : 1;  // from bin to bin
  const int64_t plane = f.channels_last ? 1 : bins;
  const int pixel = threadIdx.x % kPixels, py = pixel / kTile, px = pixel % kTile;

  for (int64_t unit = blockIdx.x; unit < tiles.first[f.level_count] * tiles.channel_blocks;
       unit += gridDim.x) {
    const Place place(tiles, unit / tiles.channel_blocks);
    const int64_t c0 =
        unit % tiles.channel_blocks * kChannels + threadIdx.x / kPixels * kChannelsPerThread;
    const int channels = f.channels - c0 < kChannelsPerThread
                             ? (f.channels > c0 ? int(f.channels - c0) : 0)
                             : kChannelsPerThread;
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
            weigh(f, place, hits + h0, count, base, by0, bx0, weights);
            __syncthreads();
            for (int h = 0; h < count; ++h) {
              const S* grad = static_cast<const S*>(p.grad_out) +
                              (base + hits[h0 + h]) * f.channels * bins + c0 * plane;
              for (int y = weights.first[h][0][py]; y < weights.last[h][0][py]; ++y)
                for (int x = weights.first[h][1][px]; x < weights.last[h][1][px]; ++x) {
                  const T weight = weights.of[h][0][y][py] * weights.of[h][1][x][px];
                  if (weight == T(0)) continue;  // also: what it would meet may be infinite
                  const S* from = grad + (int64_t(by0 + y) * f.out_width + bx0 + x) * step;
                  for (int c = 0; c < kChannelsPerThread; c += group_size)
                    if (c < channels) {
                      const auto g = load_wide<group_size>(from + c * plane);
                      for (int k = 0; k < group_size; ++k)
                        sum[c + k] = multiply_add(weight, widen(g.v[k]), sum[c + k]);
                    }
                }
            }
            __syncthreads();  // before the next weights overwrite these
          }
      }
    }

    const int64_t y = place.y + py, x = place.x + px;
    const int64_t height = f.levels[place.level].height, width = f.levels[place.level].width;
    if (y >= height || x >= width) continue;
    T* out = static_cast<T*>(p.grad_inputs[place.level]) +
             place.image * f.channels * height * width +
             (f.channels_last ? (y * width + x) * f.channels + c0 : (c0 * height + y) * width + x);
    if constexpr (wide) {
      constexpr int together = 16 / int(sizeof(T));
      for (int c = 0; c < kChannelsPerThread; c += together) {
        Wide<T, together> some;
        for (int k = 0; k < together; ++k) some.v[k] = sum[c + k];
        if (c < channels) store_wide(out + c, some);
      }
    } else {
      for (int c = 0; c < kChannelsPerThread; ++c)
        if (c < channels) out[f.channels_last ? c : c * height * width] = sum[c];
    }
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
    constexpr int group_size = 16 / int(sizeof(S));
    bool wide = f.channels_last && f.channels % group_size == 0 && aligned_to_16(p.grad_out);
    for (int l = 0; l < f.level_count; ++l) wide = wide && aligned_to_16(p.grad_inputs[l]);
    return wide ? launch(backward_kernel<S, true, kBlocks<S>>, shape, stream, p, tiles)
                : launch(backward_kernel<S, false, kBlocks<S>>, shape, stream, p, tiles);
  });
}

}  // namespace detcore
