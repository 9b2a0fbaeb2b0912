// The weights of regions, computed once per region and shared by all channels. Along each axis a
// bin has a short list of (pixel, weight). Samples that share a pixel share an entry.
#pragma once

#include "detcore/roi_align.h"
#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// Entries per axis. A region that needs more is pooled by samples.
constexpr int64_t kMostEntries = 1536;
constexpr int64_t kBins = 256;         // output bins per axis, likewise
constexpr int64_t kKeptEntries = 160;  // entries per axis that are kept between uses
constexpr int64_t kTiles = 16;         // per side of a map, to sort its regions
constexpr int64_t kChunk = 4096;       // regions kept at once, which limits the scratch memory

// The lists of one axis. Bin b is the sum of weight[i] * map[low + pixel[i]] over the entries i in
// [begin[b], begin[b + 1]).
template <class T>
struct AxisWeights {
  int64_t low, span;  // the first pixel used, and the number of pixels up to the last
  const int32_t* begin;
  const int32_t* pixel;
  const T* weight;
};

// The memory for the lists of one axis.
template <class T>
struct AxisWeightBuffer {
  int32_t* begin;  // [bins + 1]
  int32_t* pixel;  // [capacity]
  T* weight;       // [capacity]
  int64_t capacity;

  // Samples ascend, so an earlier entry of the same pixel is one of the bin's last two.
  DETCORE_HD int64_t add(int64_t first, int64_t count, int64_t at, T w) const {
    for (int64_t i = at_least(first, count - 2); i < count; ++i)
      if (pixel[i] == at) {
        weight[i] += w;
        return count;
      }
    pixel[count] = int32_t(at);
    weight[count] = w;
    return count + 1;
  }

  // Returns false if the lists do not fit.
  bool fill(const RoiAxis<T>& axis, int64_t bins, AxisWeights<T>& taps) const {
    int64_t count = 0, origin = 0, low = kMostEntries, high = -kMostEntries;
    for (int64_t b = 0; b < bins; ++b) {
      const int64_t first_entry = count;
      begin[b] = int32_t(count);
      if (axis.samples == 0) continue;
      int64_t first, last;
      axis.inside(b, first, last);
      for (int64_t s = first; s < last; ++s) {
        Tap<T> tap;
        if (!make_tap(axis.position(b, s), axis.size, tap)) continue;
        if (count == 0) origin = tap.low;
        const int64_t at = tap.low - origin;
        low = at_most(at, low), high = at_least(at + (tap.far > T(0)), high);
        if (count + 2 > capacity || high - low >= kMostEntries) return false;
        count = add(first_entry, count, at, tap.near * axis.weight());
        if (tap.far > T(0)) count = add(first_entry, count, at + 1, tap.far * axis.weight());
      }
    }
    begin[bins] = int32_t(count);
    if (count == 0) low = high + 1;
    for (int64_t i = 0; i < count; ++i) pixel[i] -= int32_t(low);
    taps = {origin + low, high - low + 1, begin, pixel, weight};
    return true;
  }
};

template <class T>
DETCORE_HD const T* roi_of(const RoiAlignParams& p, int64_t i) {
  return static_cast<const T*>(p.rois) + 5 * i;
}

template <class T>
DETCORE_HD RoiAxis<T> x_axis(const RoiAlignParams& p, const T* roi, const RoiLevel& level) {
  return roi_axis(roi[1], roi[3], T(level.spatial_scale), p.aligned, p.sampling_ratio, p.out_width,
                  level.width);
}
template <class T>
DETCORE_HD RoiAxis<T> y_axis(const RoiAlignParams& p, const T* roi, const RoiLevel& level) {
  return roi_axis(roi[2], roi[4], T(level.spatial_scale), p.aligned, p.sampling_ratio, p.out_height,
                  level.height);
}

// Memory for the lists of one region, if they are not kept.
template <class T>
struct WeightScratch {
  int32_t begin[2][kBins + 1];
  int32_t pixel[2][kMostEntries];
  T weight[2][kMostEntries];
};

template <class T>
struct Region {
  int64_t roi, image;
  int level;
  bool listed;  // false: there are no lists; the region is pooled by samples
  AxisWeights<T> rows, columns;
};

// All regions in processing order. The regions of one map (level and image) are consecutive, so
// that its planes stay in cache. Lists are kept for one chunk of regions.
template <class T>
struct Regions {
  const RoiAlignParams& p;
  Arena arena;
  int64_t maps, rows_kept, columns_kept, chunk;
  int64_t* order;   // [n]
  int64_t tiles;    // per side of a map
  int64_t* first;   // [maps * tiles^2 + 1]: begin of each tile's regions in `order`
  Region<T>* kept;  // [chunk]
  int32_t* begins;  // [chunk, out_height + 1 + out_width + 1]
  int32_t* pixels;  // [chunk, rows_kept + columns_kept]
  T* weights;       // likewise
  int64_t chunk_begin = 0, chunk_end = 0;

  DETCORE_HD explicit Regions(const RoiAlignParams& params)
      : p(params), arena{static_cast<char*>(params.workspace)}, maps(p.images * p.level_count) {
    rows_kept = entries(p.out_height), columns_kept = entries(p.out_width);
    chunk = at_most(kChunk, p.n);
    tiles = p.n > maps * kTiles * kTiles / 4 ? kTiles : 1;
    order = arena.take<int64_t>(p.n);
    first = arena.take<int64_t>(maps * tiles * tiles + 1);
    kept = arena.take<Region<T>>(chunk);
    begins = arena.take<int32_t>(listable() ? chunk * (p.out_height + p.out_width + 2) : 0);
    pixels = arena.take<int32_t>(chunk * (rows_kept + columns_kept));
    weights = arena.take<T>(chunk * (rows_kept + columns_kept));
  }

  DETCORE_HD bool listable() const { return p.out_height <= kBins && p.out_width <= kBins; }
  DETCORE_HD int64_t entries(int64_t bins) const {
    if (!listable()) return 0;
    return p.sampling_ratio > 0 ? at_most(kKeptEntries, 2 * bins * p.sampling_ratio) : kKeptEntries;
  }

  DETCORE_HD int64_t map_of(int64_t i) const {
    const T* roi = roi_of<T>(p, i);
    return level_of(p, roi) * p.images + int64_t(roi[0]);
  }

  // The index of the tile that contains a region's centre: sorted by map, row, column.
  DETCORE_HD int64_t tile_of(int64_t i) const {
    const T* roi = roi_of<T>(p, i);
    const RoiLevel& level = p.levels[level_of(p, roi)];
    const T to_tile = T(level.spatial_scale) / 2 * T(tiles);
    const auto tile = [&](T centre2, int64_t size) {  // 0 for NaN
      const T at = centre2 * to_tile / T(size);
      return at > T(0) ? (at < T(tiles) ? int64_t(at) : tiles - 1) : 0;
    };
    return (map_of(i) * tiles + tile(roi[2] + roi[4], level.height)) * tiles +
           tile(roi[1] + roi[3], level.width);
  }

  // A counting sort by tile.
  void sort() {
    const int64_t count = maps * tiles * tiles;
    for (int64_t t = 0; t <= count; ++t) first[t] = 0;
    for (int64_t i = 0; i < p.n; ++i) ++first[tile_of(i) + 1];
    for (int64_t t = 0; t < count; ++t) first[t + 1] += first[t];
    for (int64_t i = 0; i < p.n; ++i) order[first[tile_of(i)]++] = i;
    for (int64_t t = count; t > 0; --t) first[t] = first[t - 1];
    first[0] = 0;
  }

  // The begin of a map's regions in `order`.
  DETCORE_HD int64_t begin_of(int64_t map) const { return first[map * tiles * tiles]; }

  bool list(Region<T>& r, const AxisWeightBuffer<T>& rows,
            const AxisWeightBuffer<T>& columns) const {
    const RoiLevel& level = p.levels[r.level];
    const T* roi = roi_of<T>(p, r.roi);
    return listable() && rows.fill(y_axis(p, roi, level), p.out_height, r.rows) &&
           columns.fill(x_axis(p, roi, level), p.out_width, r.columns);
  }

  // Makes the lists of the regions [begin, end) of the order.
  void keep(int64_t begin, int64_t end, const Executor& executor) {
    chunk_begin = begin, chunk_end = end;
    parallel_for(executor, end - begin, 512, [&](int64_t from, int64_t to) {
      for (int64_t k = from; k < to; ++k) {
        Region<T>& r = kept[k];
        r.roi = order[begin + k];
        const int64_t map = map_of(r.roi);
        r.level = int(map / p.images), r.image = map % p.images;
        int32_t* starts = begins + k * (p.out_height + p.out_width + 2);
        const int64_t at = k * (rows_kept + columns_kept);
        r.listed = list(r, {starts, pixels + at, weights + at, rows_kept},
                        {starts + p.out_height + 1, pixels + at + rows_kept,
                         weights + at + rows_kept, columns_kept});
      }
    });
  }

  // Region k of the order, with its lists. The lists of a large region are computed again, which
  // costs little compared with pooling it.
  DETCORE_HD Region<T> at(int64_t k, WeightScratch<T>& scratch) const {
    Region<T> r = kept[k - chunk_begin];
    if (!r.listed)
      r.listed = list(r, {scratch.begin[0], scratch.pixel[0], scratch.weight[0], kMostEntries},
                      {scratch.begin[1], scratch.pixel[1], scratch.weight[1], kMostEntries});
    return r;
  }
};

// Strides of a dense map [images, channels, height, width] in either layout.
struct Layout {
  int64_t image, channel, row, column;
  DETCORE_HD Layout(int64_t channels, int64_t height, int64_t width, bool channels_last)
      : image(channels * height * width),
        channel(channels_last ? 1 : height * width),
        row(channels_last ? width * channels : width),
        column(channels_last ? channels : 1) {}
};

// Calls f(b_y, b_x, pixel offset, weight) for every tap of every sample, for regions without lists.
template <class T, class F>
void each_tap(const RoiAlignParams& p, const Region<T>& r, const Layout& in, const F& f) {
  const RoiLevel& level = p.levels[r.level];
  const RoiAxis<T> y = y_axis(p, roi_of<T>(p, r.roi), level);
  const RoiAxis<T> x = x_axis(p, roi_of<T>(p, r.roi), level);
  if (x.samples == 0 || y.samples == 0) return;
  for (int64_t by = 0; by < p.out_height; ++by)
    for (int64_t bx = 0; bx < p.out_width; ++bx) {
      int64_t y0, y1, x0, x1;
      y.inside(by, y0, y1), x.inside(bx, x0, x1);
      for (int64_t sy = y0; sy < y1; ++sy) {
        Tap<T> ty, tx;
        if (!make_tap(y.position(by, sy), level.height, ty)) continue;
        for (int64_t sx = x0; sx < x1; ++sx) {
          if (!make_tap(x.position(bx, sx), level.width, tx)) continue;
          const T share = y.weight() * x.weight();
          for (int dy = 0; dy < 1 + (ty.far > T(0)); ++dy)
            for (int dx = 0; dx < 1 + (tx.far > T(0)); ++dx)
              f(by, bx, (ty.low + dy) * in.row + (tx.low + dx) * in.column,
                share * (dy ? ty.far : ty.near) * (dx ? tx.far : tx.near));
        }
      }
    }
}

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
