// Backward of roi_align_rotated, the forward's way back. Every element of the gradient has one
// writer, which adds the regions in order. For contiguous (planar) maps the gradient of a group of
// neighbouring regions is summed in a patch, one plane per lane, which is transposed and added to
// the map; where few pixels are used they are added one by one. For channels-last maps SIMD goes
// along the channels.
#include "roi_align_rotated_lists.h"
#include "simd_shuffle.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// The part of an image's map that a unit of work owns: channels [c0, c1) of rows [y0, y1).
struct Block {
  int64_t image, c0, c1, y0, y1;

  DETCORE_HD bool misses(const PixelBox& box) const {
    return box.y >= y1 || box.y + box.height <= y0;
  }
  DETCORE_HD bool has_row(int64_t y) const { return y >= y0 && y < y1; }
};

// Spreads the gradient of one region without lists, in either layout.
template <class S, class T>
void spread_by_samples(const RoiAlignRotatedBackwardParams& b, const ListedRegion<T>& r,
                       const Block& block, T* map) {
  const RoiAlignRotatedParams& p = b.forward;
  const RotatedRoi<T> geometry = rotated_roi<T>(p, r.roi);
  const int64_t bins = int64_t(p.out_height) * p.out_width, plane = p.height * p.width;
  const S* grad = static_cast<const S*>(b.grad_out) + r.roi * p.channels * bins;
  for (int64_t bin = 0; bin < bins; ++bin)
    each_tap(geometry, bin / p.out_width, bin % p.out_width, [&](int64_t x, int64_t y, T w) {
      if (!block.has_row(y)) return;
      const int64_t pixel = y * p.width + x;
      for (int64_t c = block.c0; c < block.c1; ++c)
        map[p.channels_last ? pixel * p.channels + c : c * plane + pixel] +=
            w * widen(grad[p.channels_last ? bin * p.channels + c : c * bins + bin]);
    });
}

// Spreads groups of regions over a block of a planar map, of at most Patch::planes planes.
template <class S>
struct Planar {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width, planes = Patch<T>::planes;

  const RoiAlignRotatedBackwardParams& b;
  const RoiAlignRotatedParams& p;
  const int64_t bins, plane;
  Patch<T> patch;

  DETCORE_HD Planar(const RoiAlignRotatedBackwardParams& params, const Patch<T>& scratch)
      : b(params),
        p(params.forward),
        bins(int64_t(p.out_height) * p.out_width),
        plane(p.height * p.width),
        patch(scratch) {}

  // map: the gradient of the image's map, [channels, height, width]
  void spread(const RotatedRegions<T>& regions, const RegionGroup& group, const Block& block,
              T* map) {
    T* own = map + block.c0 * plane;
    const bool copied = group.copied && !block.misses(group.box);
    if (copied) {
      patch.shape(group.box);
      memset(patch.pixels, 0, group.box.height * patch.pitch * planes * sizeof(T));
    }
    for (int64_t k = group.first; k < group.last; ++k) {
      const ListedRegion<T>& r = regions.kept[k];
      if (!r.listed) {
        spread_by_samples<S>(b, r, block, map);
      } else if (block.misses(r.box)) {
        continue;
      } else if (group.copied) {
        T* corner = patch.at(r.box.y - group.box.y, r.box.x - group.box.x);
        each_bin(r, block,
                 [&](int64_t bin, L low, L high) { to_patch(r, bin, low, high, corner); });
      } else {
        each_bin(r, block,
                 [&](int64_t bin, L low, L high) { to_map(r, bin, low, high, block, own); });
      }
    }
    if (copied) add_patch(group.box, block, own);
  }

  // Calls f(bin, low, high) with the gradient of each bin, one plane per lane.
  template <class F>
  DETCORE_HD void each_bin(const ListedRegion<T>& r, const Block& block, const F& f) const {
    const S* grad = static_cast<const S*>(b.grad_out) + (r.roi * p.channels + block.c0) * bins;
    for (int64_t bin = 0; bin < bins; bin += W) {
      const int64_t some = at_most(W, bins - bin), there = block.c1 - block.c0;
      L low[W], high[W];
      turn(grad + bin, there, some, low);
      turn(grad + W * bins + bin, there - W, some, high);
      for (int64_t k = 0; k < some; ++k) f(bin + k, low[k], high[k]);
    }
  }
  DETCORE_HD void turn(const S* grad, int64_t there, int64_t some, L (&square)[W]) const {
    const S* end = static_cast<const S*>(b.grad_out) + p.n * p.channels * bins;
    for (int64_t l = 0; l < W; ++l) {
      const S* from = grad + l * bins;
      if (l >= there)
        square[l] = L(T(0));
      else if (end - from >= W)
        square[l] = load_lanes(from);
      else
        load_lanes(from, some, square[l]);
    }
    transpose(square);
  }

  DETCORE_HD void to_patch(const ListedRegion<T>& r, int64_t bin, L low, L high, T* corner) const {
    for (int32_t e = r.begin[bin]; e < r.begin[bin + 1]; ++e) {
      const Entry<T> entry = r.entries[e];
      T* at = corner + (row_of(entry.pixel) * patch.pitch + column_of(entry.pixel)) * planes;
      const L weight(entry.weight);
      (L::load(at) + weight * low).store(at);
      (L::load(at + W) + weight * high).store(at + W);
    }
  }

  DETCORE_HD void to_map(const ListedRegion<T>& r, int64_t bin, L low, L high, const Block& block,
                         T* map) const {
    const int64_t there = block.c1 - block.c0;
    for (int32_t e = r.begin[bin]; e < r.begin[bin + 1]; ++e) {
      const Entry<T> entry = r.entries[e];
      const int64_t y = r.box.y + row_of(entry.pixel);
      if (!block.has_row(y)) continue;
      T* at = map + y * p.width + r.box.x + column_of(entry.pixel);
      T values[planes];
      (L(entry.weight) * low).store(values), (L(entry.weight) * high).store(values + W);
      for (int64_t l = 0; l < there; ++l) at[l * plane] += values[l];
    }
  }

  // Adds the rows of the patch that the block owns to its planes.
  void add_patch(const PixelBox& box, const Block& block, T* map) {
    const int64_t top = at_least(box.y, block.y0), bottom = at_most(box.y + box.height, block.y1);
    for (int64_t y = top; y < bottom; ++y)
      for (int64_t x = 0; x < box.width; x += W)
        for (int64_t half = 0; half < planes; half += W) {
          L square[W];
          for (int64_t l = 0; l < W; ++l) square[l] = L::load(patch.at(y - box.y, x + l) + half);
          transpose(square);
          const int64_t there = at_most(W, block.c1 - block.c0 - half);
          T* to = map + half * plane + y * p.width + box.x + x;
          const int64_t some = at_most(W, box.width - x);
          for (int64_t l = 0; l < there; ++l, to += plane)
            (L::load(to, some) + square[l]).store(to, some);
        }
  }
};

// Spreads the gradient of regions over a block of a channels-last map.
template <class S>
struct ChannelsLast {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width;

  const RoiAlignRotatedBackwardParams& b;
  const RoiAlignRotatedParams& p;

  // map: the gradient of the image's map, [height, width, channels]
  void spread(const RotatedRegions<T>& regions, const ListedRegion<T>& r, const Block& block,
              T* map) const {
    if (!r.listed) return spread_by_samples<S>(b, r, block, map);
    if (block.misses(r.box)) return;
    const S* grad = static_cast<const S*>(b.grad_out) + r.roi * regions.bins * p.channels;
    T* corner = map + (r.box.y * p.width + r.box.x) * p.channels;
    for (int64_t bin = 0; bin < regions.bins; ++bin, grad += p.channels) {
      int64_t c = block.c0;
      for (; c + 4 * W <= block.c1; c += 4 * W) spread_bin<4>(r, bin, block, grad + c, corner + c);
      for (; c + W <= block.c1; c += W) spread_bin<1>(r, bin, block, grad + c, corner + c);
      each(r, bin, block, corner, [&](T* at, T weight) {
        for (int64_t k = c; k < block.c1; ++k) at[k] += weight * widen(grad[k]);
      });
    }
  }

  // Calls f(the channels of a pixel, weight) for each entry of a bin in the block's rows.
  template <class F>
  DETCORE_HD void each(const ListedRegion<T>& r, int64_t bin, const Block& block, T* corner,
                       const F& f) const {
    for (int32_t e = r.begin[bin]; e < r.begin[bin + 1]; ++e) {
      const Entry<T> entry = r.entries[e];
      if (block.has_row(r.box.y + row_of(entry.pixel)))
        f(corner + (row_of(entry.pixel) * p.width + column_of(entry.pixel)) * p.channels,
          entry.weight);
    }
  }
  template <int kBlocks>
  DETCORE_HD void spread_bin(const ListedRegion<T>& r, int64_t bin, const Block& block,
                             const S* grad, T* corner) const {
    L g[kBlocks];
    for (int k = 0; k < kBlocks; ++k) g[k] = load_lanes(grad + k * W);
    each(r, bin, block, corner, [&](T* at, T weight) {
      const L w(weight);
      for (int k = 0; k < kBlocks; ++k) (L::load(at + k * W) + w * g[k]).store(at + k * W);
    });
  }
};

// How the gradient of the map is divided: into blocks of channels and, where these are few, bands
// of rows.
struct Cut {
  int64_t channels, rows, blocks, bands;

  Cut(const RoiAlignRotatedParams& p, int64_t planes) {
    constexpr int64_t kUnits = 16;  // enough for many threads
    channels = p.channels_last ? 64 : planes;
    blocks = divide_up(p.channels, channels);
    const int64_t wanted = divide_up(kUnits, at_least(1, blocks * p.images));
    rows = at_least(8, divide_up(p.height, wanted));
    bands = divide_up(p.height, rows);
  }
};

template <class T>
void clear(const RoiAlignRotatedParams& p, const Block& block, T* map) {
  if (p.channels_last) {
    for (int64_t i = block.y0 * p.width; i < block.y1 * p.width; ++i)
      memset(map + i * p.channels + block.c0, 0, (block.c1 - block.c0) * sizeof(T));
  } else {
    for (int64_t c = block.c0; c < block.c1; ++c)
      memset(map + (c * p.height + block.y0) * p.width, 0,
             (block.y1 - block.y0) * p.width * sizeof(T));
  }
}

// Adds the regions of a chunk to the gradient of a block. The first chunk clears it.
template <class T, class F>
void spread_block(const RoiAlignRotatedBackwardParams& b, const RotatedRegions<T>& regions,
                  const Block& block, const F& spread) {
  const RoiAlignRotatedParams& p = b.forward;
  T* map = static_cast<T*>(b.grad_input) + block.image * p.channels * p.height * p.width;
  if (regions.chunk_begin == 0) clear(p, block, map);
  for (int64_t g = 0; g < regions.group_count; ++g)
    if (regions.kept[regions.groups[g].first].image == block.image) spread(regions.groups[g], map);
}

template <class S, class T>
void spread_chunk(const RoiAlignRotatedBackwardParams& b, const RotatedRegions<T>& regions,
                  const Executor& executor) {
  const RoiAlignRotatedParams& p = b.forward;
  const Cut cut(p, Patch<T>::planes);
  const double work = double(regions.chunk_end - regions.chunk_begin) * double(regions.bins) * 16 *
                          double(cut.channels) / double(at_least(1, p.images * cut.bands)) +
                      double(cut.channels * cut.rows * p.width);
  // the image varies fastest, so that an image with many regions is shared by several threads
  const int64_t units = p.images * cut.blocks * cut.bands;
  const auto block_of = [&](int64_t unit) {
    const int64_t within = unit / p.images;
    const int64_t c0 = within / cut.bands * cut.channels, y0 = within % cut.bands * cut.rows;
    return Block{unit % p.images, c0, at_most(p.channels, c0 + cut.channels), y0,
                 at_most(p.height, y0 + cut.rows)};
  };
  if (p.channels_last) {
    parallel_for(executor, units, grain_of(work), [&](int64_t begin, int64_t end) {
      const ChannelsLast<S> spreading{b, p};
      for (int64_t unit = begin; unit < end; ++unit) {
        const Block block = block_of(unit);
        spread_block(b, regions, block, [&](const RegionGroup& group, T* map) {
          for (int64_t k = group.first; k < group.last; ++k)
            spreading.spread(regions, regions.kept[k], block, map);
        });
      }
    });
  } else {
    each_with_patch(regions, executor, units, work,
                    [&](const Patch<T>& patch, int64_t begin, int64_t end) {
                      Planar<S> spreading(b, patch);
                      for (int64_t unit = begin; unit < end; ++unit) {
                        const Block block = block_of(unit);
                        spread_block(b, regions, block, [&](const RegionGroup& group, T* map) {
                          spreading.spread(regions, group, block, map);
                        });
                      }
                    });
  }
}

}  // namespace

Status roi_align_rotated_backward(const RoiAlignRotatedBackwardParams& b,
                                  const Executor& executor) {
  return with_storage(b.forward.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    RotatedRegions<T> regions(b.forward);
    regions.sort();
    do {
      regions.next(executor);
      spread_chunk<S>(b, regions, executor);
    } while (regions.chunk_end < b.forward.n);
    return Status{};
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(roi_align_rotated_backward, RoiAlignRotatedBackwardParams)
