// Forward: a thread an output element (planar) or sixteen bytes of channels (channels-last), every
// sample's taps made on the fly. Backward: a block owns a tile of 8 x 8 pixels and some channels,
// in registers; it walks the ROIs of its image in order, skips those that miss the tile, and
// gathers gradient through the separable weights of rows and columns. No atomics, so the same bits
// each run.
#include "detcore/roi_align.h"

#include "launch.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 8;  // pixels a side
constexpr int kPixels = kTile * kTile;
constexpr int kGroups = kThreads / kPixels;  // threads that share a pixel
constexpr int kChannelsPerThread = 8;
constexpr int kChannels = kGroups * kChannelsPerThread;  // a block
constexpr int kBins = 16;                                // output bins an axis at a time

template <class T>
struct Region {
  int64_t image;  // -1: none
  int level;
  RoiAxis<T> x, y;
};

template <class T>
__device__ Region<T> region(const RoiAlignParams& p, int64_t i) {
  const T* r = static_cast<const T*>(p.rois) + 5 * i;
  const int l = level_of(p, r);
  const RoiLevel& level = p.levels[l];
  const T scale = T(level.spatial_scale);
  Region<T> out{
      -1, l, roi_axis(r[1], r[3], scale, p.aligned, p.sampling_ratio, p.out_width, level.width),
      roi_axis(r[2], r[4], scale, p.aligned, p.sampling_ratio, p.out_height, level.height)};
  if (r[0] > T(-1) && r[0] < T(p.images)) out.image = int64_t(r[0]);
  if (out.x.samples == 0 || out.y.samples == 0) out.image = -1;
  return out;
}

// kWide channels at once, as one access.
template <class S, int kWide>
struct alignas(sizeof(S) * kWide) Wide {
  S v[kWide];
};

template <class S, int kWide>
__global__ void forward_kernel(RoiAlignParams p) {
  using T = arithmetic_t<S>;
  using Access = Wide<S, kWide>;
  const int64_t bins = int64_t(p.out_height) * p.out_width;
  const int64_t chunks = p.channels / kWide;
  const int64_t step = p.channels_last ? p.channels : 1;  // from pixel to pixel
  for (int64_t i = global_thread(); i < p.n * bins * chunks; i += all_threads()) {
    // the fastest index runs along memory: channels, or bins
    const int64_t roi = i / (bins * chunks), within = i % (bins * chunks);
    const int64_t bin = p.channels_last ? within / chunks : within % bins;
    const int64_t c = (p.channels_last ? within % chunks : within / bins) * kWide;
    const int64_t by = bin / p.out_width, bx = bin % p.out_width;

    T sum[kWide];
    for (int k = 0; k < kWide; ++k) sum[k] = T(0);
    const Region<T> r = region<T>(p, roi);
    if (r.image >= 0) {
      const int64_t height = r.y.size, width = r.x.size;
      const S* map = static_cast<const S*>(p.levels[r.level].map) +
                     r.image * p.channels * height * width +
                     (p.channels_last ? c : c * height * width);
      int64_t y0, y1, x0, x1;
      r.y.inside(by, y0, y1);
      r.x.inside(bx, x0, x1);
      for (int64_t sy = y0; sy < y1; ++sy) {
        Tap<T> ty;
        if (!make_tap(r.y.position(by, sy), height, ty)) continue;
        for (int64_t sx = x0; sx < x1; ++sx) {
          Tap<T> tx;
          if (!make_tap(r.x.position(bx, sx), width, tx)) continue;
          for (int corner = 0; corner < 4; ++corner) {
            const T wy = corner & 2 ? ty.far : ty.near, wx = corner & 1 ? tx.far : tx.near;
            if (wy == T(0) || wx == T(0)) continue;  // the pixel may lie past the edge
            const int64_t pixel = (ty.low + (corner >> 1)) * width + tx.low + (corner & 1);
            const Access from = *reinterpret_cast<const Access*>(map + pixel * step);
            for (int k = 0; k < kWide; ++k) sum[k] += wy * wx * widen(from.v[k]);
          }
        }
      }
      const T share = r.y.weight() * r.x.weight();
      for (int k = 0; k < kWide; ++k) sum[k] *= share;
    }
    Access to;
    for (int k = 0; k < kWide; ++k) narrow(sum[k], to.v[k]);
    S* out = static_cast<S*>(p.out) + roi * p.channels * bins +
             (p.channels_last ? bin * p.channels + c : c * bins + bin);
    *reinterpret_cast<Access*>(out) = to;
  }
}

// What bin b takes from pixel `at` of an axis.
template <class T>
__device__ T bin_weight(const RoiAxis<T>& axis, int64_t b, int64_t at) {
  int64_t first, last;
  axis.inside(b, first, last);
  T sum = T(0);
  for (int64_t s = first; s < last; ++s) {
    Tap<T> tap;
    if (!make_tap(axis.position(b, s), axis.size, tap)) continue;
    if (tap.low == at) sum += tap.near;
    if (tap.low + 1 == at) sum += tap.far;
  }
  return sum * axis.weight();
}

// Whether any sample of the axis can reach the pixels [low, low + kTile).
template <class T>
__device__ bool reaches(const RoiAxis<T>& axis, int64_t bins, int64_t low) {
  const T a = axis.start, b = axis.start + axis.bin * T(bins);
  const T from = a < b ? a : b, to = a < b ? b : a;
  // pixel 0 and the last one also take samples from a pixel outside
  return to + T(1.01) >= T(low) && from - T(1.01) <= T(low + kTile);
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

template <class S>
__global__ void backward_kernel(RoiAlignBackwardParams p, Tiles tiles) {
  using T = arithmetic_t<S>;
  __shared__ int hits[kThreads];  // ROIs of this batch that reach the tile, in order
  __shared__ int warp_hits[kThreads / 32];
  __shared__ T weight_y[kBins][kTile], weight_x[kBins][kTile];
  const RoiAlignParams& f = p.forward;
  const int64_t bins = int64_t(f.out_height) * f.out_width;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int pixel = threadIdx.x % kPixels, group = threadIdx.x / kPixels;
  const int py = pixel / kTile, px = pixel % kTile;

  for (int64_t unit = blockIdx.x; unit < tiles.first[f.level_count] * tiles.channel_blocks;
       unit += gridDim.x) {
    int64_t tile = unit / tiles.channel_blocks;
    int level = 0;
    while (tile >= tiles.first[level + 1]) ++level;
    tile -= tiles.first[level];
    const int64_t tile_x = tile % tiles.columns[level] * kTile;
    const int64_t tile_y = tile / tiles.columns[level] % tiles.rows[level] * kTile;
    const int64_t image = tile / (tiles.columns[level] * tiles.rows[level]);
    const int64_t c0 = unit % tiles.channel_blocks * kChannels + group * kChannelsPerThread;
    T sum[kChannelsPerThread];
    for (int k = 0; k < kChannelsPerThread; ++k) sum[k] = T(0);

    for (int64_t base = 0; base < f.n; base += kThreads) {
      bool hit = false;
      if (base + threadIdx.x < f.n) {
        const Region<T> r = region<T>(f, base + threadIdx.x);
        hit = r.image == image && r.level == level && reaches(r.y, f.out_height, tile_y) &&
              reaches(r.x, f.out_width, tile_x);
      }
      const unsigned votes = __ballot_sync(0xffffffffu, hit);
      if (lane == 0) warp_hits[warp] = __popc(votes);
      __syncthreads();
      int at = __popc(votes & ((1u << lane) - 1)), total = 0;
      for (int w = 0; w < kThreads / 32; ++w) {
        if (w < warp) at += warp_hits[w];
        total += warp_hits[w];
      }
      if (hit) hits[at] = threadIdx.x;
      __syncthreads();

      for (int h = 0; h < total; ++h) {
        const int64_t roi = base + hits[h];
        const Region<T> r = region<T>(f, roi);
        const S* grad = static_cast<const S*>(p.grad_out) + roi * f.channels * bins;
        for (int by0 = 0; by0 < f.out_height; by0 += kBins)
          for (int bx0 = 0; bx0 < f.out_width; bx0 += kBins) {
            __syncthreads();  // the last weights have been read
            const int k = threadIdx.x % (kBins * kTile), b = k / kTile, at_pixel = k % kTile;
            if (threadIdx.x < kBins * kTile)
              weight_y[b][at_pixel] =
                  by0 + b < f.out_height ? bin_weight(r.y, by0 + b, tile_y + at_pixel) : T(0);
            else
              weight_x[b][at_pixel] =
                  bx0 + b < f.out_width ? bin_weight(r.x, bx0 + b, tile_x + at_pixel) : T(0);
            __syncthreads();
            for (int y = 0; y < kBins; ++y) {
              const T wy = weight_y[y][py];
              if (wy == T(0)) continue;
              for (int x = 0; x < kBins; ++x) {
                const T wx = weight_x[x][px];
                if (wx == T(0)) continue;
                const int64_t bin = int64_t(by0 + y) * f.out_width + bx0 + x;
                for (int c = 0; c < kChannelsPerThread; ++c)
                  if (c0 + c < f.channels)
                    sum[c] += wy * wx *
                              widen(grad[f.channels_last ? bin * f.channels + c0 + c
                                                         : (c0 + c) * bins + bin]);
              }
            }
          }
      }
      __syncthreads();  // before the next batch overwrites the list
    }

    const int64_t y = tile_y + py, x = tile_x + px;
    const int64_t height = f.levels[level].height, width = f.levels[level].width;
    if (y < height && x < width) {
      T* out = static_cast<T*>(p.grad_inputs[level]) + image * f.channels * height * width;
      for (int c = 0; c < kChannelsPerThread; ++c)
        if (c0 + c < f.channels)
          out[f.channels_last ? (y * width + x) * f.channels + c0 + c
                              : ((c0 + c) * height + y) * width + x] = sum[c];
    }
  }
}

bool aligned_to_16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace

Status roi_align_cuda(const RoiAlignParams& p, Stream stream) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    constexpr int wide = 16 / sizeof(S);
    const int64_t outputs = p.n * p.channels * p.out_height * p.out_width;
    bool aligned = aligned_to_16(p.out);
    for (int l = 0; l < p.level_count; ++l) aligned = aligned && aligned_to_16(p.levels[l].map);
    if (p.channels_last && p.channels % wide == 0 && aligned)
      return launch(forward_kernel<S, wide>, {blocks_for(outputs / wide, kThreads), kThreads},
                    stream, p);
    return launch(forward_kernel<S, 1>, {blocks_for(outputs, kThreads), kThreads}, stream, p);
  });
}

Status roi_align_backward_cuda(const RoiAlignBackwardParams& p, Stream stream) {
  const Tiles tiles(p.forward);
  const int64_t units = tiles.first[p.forward.level_count] * tiles.channel_blocks;
  return with_storage(p.forward.dtype, [&](auto storage) {
    return launch(backward_kernel<decltype(storage)>, {blocks_for(units, 1), kThreads}, stream, p,
                  tiles);
  });
}

}  // namespace detcore
