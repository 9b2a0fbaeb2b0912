// What the bins of turned regions take from the pixels of the map: a list of (pixel, weight) per
// bin, made once per region and shared by all channels. Samples of a bin that share a pixel share
// an entry. Neighbouring regions form groups, whose pixels are copied together.
#pragma once

#include "detcore/roi_align_rotated.h"
#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kMostEntries = 1 << 21;  // kept at once, which limits the scratch memory
constexpr int64_t kChunk = 4096;           // regions kept at once, likewise
constexpr int64_t kEntriesPerBin = 256;    // that memory is taken for, if samples are adaptive
constexpr int64_t kWindow = 4096;          // pixels of a bin that samples are merged in
constexpr int64_t kTiles = 16;             // per side of a map, to sort its regions
constexpr int64_t kPatch = 96 << 10;       // pixels that a group may copy
constexpr int64_t kWorth = 2;              // pixels copied for the price of an entry taken alone
constexpr int64_t kWorkers = 32;           // with a patch each
constexpr int64_t kMostSpan = 1 << 16;     // rows and columns of a region with lists

// The pixels per row of a copy: whole vectors on every instruction set, so that all form the same
// groups.
constexpr int64_t kPitch = 16;
DETCORE_HD int64_t pitch_of(int64_t width) { return divide_up(width, kPitch) * kPitch; }

// Planes per patch with the widest instruction set.
template <class T>
constexpr int64_t kMostPlanes = 2 * 64 / sizeof(T);

// Whole pixels of a map.
struct PixelBox {
  int64_t x, y, width, height;

  DETCORE_HD int64_t area() const { return width * height; }
  DETCORE_HD int64_t copied_area() const { return pitch_of(width) * height; }
  DETCORE_HD PixelBox united(const PixelBox& b) const {
    if (area() == 0 || b.area() == 0) return area() == 0 ? b : *this;
    const int64_t left = at_most(x, b.x), top = at_most(y, b.y);
    return {left, top, at_least(x + width, b.x + b.width) - left,
            at_least(y + height, b.y + b.height) - top};
  }
};

// A pixel of a region's box, row << 16 | column, and its weight.
template <class T>
struct Entry {
  uint32_t pixel;
  T weight;
};

// Bin b is the sum of weight * pixel over the entries [begin[b], begin[b + 1]).
template <class T>
struct ListedRegion {
  int64_t roi, image;
  bool listed;   // false: there are no lists; the region is pooled by samples
  PixelBox box;  // the pixels used; empty: none
  const int32_t* begin;
  const Entry<T>* entries;
};

// Consecutive regions of one image.
struct RegionGroup {
  int64_t first, last;  // of the chunk
  PixelBox box;
  bool copied;  // whether to copy the pixels of the box, or to take them from where they are
};

// The pixels that samples from `low` to `high` use along an axis. False: there are none.
template <class T>
DETCORE_HD bool pixels_used(T low, T high, int64_t size, int64_t& first, int64_t& count) {
  if (!(high >= T(-1) && low <= T(size)) || size == 0) return false;
  const int64_t last = high < T(size - 1) ? int64_t(lane_max(high, T(0))) + 1 : size - 1;
  first = low > T(0) ? at_most(size - 1, int64_t(low)) : 0;
  count = at_most(size - 1, last) - first + 1;
  return true;
}

// The pixels that the samples of bins [by0, by1] x [bx0, bx1] can use; empty if all are outside the
// map. Rounding is monotonic, so that the corners of the grid bound all of it.
template <class T>
PixelBox pixels_of(const RotatedRoi<T>& r, int64_t by0, int64_t bx0, int64_t by1, int64_t bx1) {
  if (!r.has_samples()) return {0, 0, 0, 0};
  const T u[2] = {r.columns.position(bx0, int64_t(0)),
                  r.columns.position(bx1, r.columns.samples - 1)};
  const T v[2] = {r.rows.position(by0, int64_t(0)), r.rows.position(by1, r.rows.samples - 1)};
  T left = r.x_of(u[0], v[0]), top = r.y_of(u[0], v[0]), right = left, bottom = top;
  for (int k = 1; k < 4; ++k) {
    const T x = r.x_of(u[k % 2], v[k / 2]), y = r.y_of(u[k % 2], v[k / 2]);
    left = lane_min(left, x), right = lane_max(right, x);
    top = lane_min(top, y), bottom = lane_max(bottom, y);
  }
  PixelBox box;
  return pixels_used(left, right, r.columns.size, box.x, box.width) &&
                 pixels_used(top, bottom, r.rows.size, box.y, box.height)
             ? box
             : PixelBox{0, 0, 0, 0};
}

// Calls f(x, y, weight) for the pixels of each sample of a bin that have a weight.
template <class T, class F>
DETCORE_HD void each_tap(const RotatedRoi<T>& r, int64_t by, int64_t bx, const F& f) {
  const int64_t width = r.columns.size, height = r.rows.size;
  const T share = r.weight();
  each_sample(r, SampleArea<T>{T(-1), T(-1), T(width), T(height)}, by, bx, [&](T x, T y) {
    RotatedTap<T> tap;
    if (!make_tap(x, y, width, height, tap)) return;
    const int64_t left = tap.columns.low, top = tap.rows.low;
    const T near = tap.rows.near * share, far = tap.rows.far * share;
    f(left, top, near * tap.columns.near);
    if (tap.columns.far > T(0)) f(left + 1, top, near * tap.columns.far);
    if (far > T(0)) f(left, top + 1, far * tap.columns.near);
    if (far > T(0) && tap.columns.far > T(0)) f(left + 1, top + 1, far * tap.columns.far);
  });
}

// The most entries that a region can have. More than kMostEntries: it has no lists.
template <class T>
int64_t most_entries(const RoiAlignRotatedParams& p, const RotatedRoi<T>& r) {
  const PixelBox box = pixels_of(r, 0, 0, p.out_height - 1, p.out_width - 1);
  if (box.area() == 0) return 0;
  if (box.width > kMostSpan || box.height > kMostSpan) return kMostEntries + 1;
  const double taps = 4.0 * double(r.rows.samples) * double(r.columns.samples);
  const double cosine = lane_max(r.cosine, -r.cosine), sine = lane_max(r.sine, -r.sine);
  const double bin_w = lane_max(r.columns.bin, -r.columns.bin);
  const double bin_h = lane_max(r.rows.bin, -r.rows.bin);
  const double pixels =
      (bin_w * cosine + bin_h * sine + 4.0) * (bin_w * sine + bin_h * cosine + 4.0);
  const double per_bin = pixels <= double(kWindow) ? lane_min(taps, pixels) : taps;
  const double most = double(p.out_height) * double(p.out_width) * per_bin;
  return most <= double(kMostEntries) ? int64_t(most) : kMostEntries + 1;
}

// Writes the list of a region.
template <class T>
struct ListWriter {
  T window[kWindow];  // the weights of a bin's pixels, zeros in between

  DETCORE_HD ListWriter() {
    for (int64_t i = 0; i < kWindow; ++i) window[i] = T(0);
  }

  // begin: [bins + 1]. Returns false if there is not enough room for the entries.
  bool write(const RoiAlignRotatedParams& p, const RotatedRoi<T>& r, const PixelBox& box,
             int32_t* begin, Entry<T>* entries, int64_t room) {
    int64_t count = 0, bin = 0;
    const auto add = [&](int64_t x, int64_t y, T w) {
      if (count < room) entries[count] = {uint32_t((y - box.y) << 16 | (x - box.x)), w};
      ++count;
    };
    const double taps = 4.0 * double(r.rows.samples) * double(r.columns.samples);
    for (int64_t by = 0; by < p.out_height; ++by)
      for (int64_t bx = 0; bx < p.out_width; ++bx) {
        begin[bin++] = int32_t(count);
        const PixelBox of_bin = box.area() ? pixels_of(r, by, bx, by, bx) : box;
        if (of_bin.area() == 0) continue;
        // samples that are far apart share no pixels
        if (of_bin.area() <= kWindow && double(of_bin.area()) <= 4 * taps)
          merge(r, by, bx, of_bin, add);
        else
          each_tap(r, by, bx, add);
        if (count > room) return false;
      }
    begin[bin] = int32_t(count);
    return true;
  }

  template <class F>
  DETCORE_HD void merge(const RotatedRoi<T>& r, int64_t by, int64_t bx, const PixelBox& of_bin,
                        const F& add) {
    each_tap(r, by, bx, [&](int64_t x, int64_t y, T w) {
      window[(y - of_bin.y) * of_bin.width + (x - of_bin.x)] += w;
    });
    T* at = window;
    for (int64_t y = 0; y < of_bin.height; ++y)
      for (int64_t x = 0; x < of_bin.width; ++x, ++at)
        if (*at != T(0)) add(of_bin.x + x, of_bin.y + y, *at), *at = T(0);
  }
};

// All regions in processing order. The regions of one image are consecutive, and those of one tile
// of it, so that its pixels stay in cache. Lists are kept for one chunk of regions.
template <class T>
struct RotatedRegions {
  const RoiAlignRotatedParams& p;
  Arena arena;
  int64_t bins, chunk, tiles, room;  // room: for entries
  int64_t* order;                    // [n]
  int64_t* first;                    // [images * tiles^2 + 1]: begin of each tile's in `order`
  ListedRegion<T>* kept;             // [chunk]
  RegionGroup* groups;               // [chunk]
  int32_t* begins;                   // [chunk, bins + 1]
  Entry<T>* entries;                 // [room]
  int64_t* starts;                   // [chunk + 1]: of each region's entries
  T* patches;                        // [workers, patch_room, kMostPlanes]
  int64_t patch_room;                // pixels
  int64_t workers;                   // few for little work, so that little memory is asked for
  int64_t chunk_begin = 0, chunk_end = 0, group_count = 0;

  DETCORE_HD explicit RotatedRegions(const RoiAlignRotatedParams& params)
      : p(params), arena{static_cast<char*>(params.workspace)} {
    bins = int64_t(p.out_height) * p.out_width;
    chunk = at_most(at_most(kChunk, at_least(1, kMostEntries / (bins + 1))), p.n);
    const double ratio = p.sampling_ratio;
    const double per_bin =
        ratio > 0 ? lane_min(4 * ratio * ratio, double(kEntriesPerBin)) : double(kEntriesPerBin);
    const double wanted = double(p.n) * double(bins) * per_bin;
    room = wanted < double(kMostEntries) ? int64_t(wanted) : kMostEntries;
    tiles = p.n > p.images * kTiles * kTiles / 4 ? kTiles : 1;
    order = arena.take<int64_t>(p.n);
    first = arena.take<int64_t>(p.images * tiles * tiles + 1);
    kept = arena.take<ListedRegion<T>>(chunk);
    groups = arena.take<RegionGroup>(chunk);
    begins = arena.take<int32_t>(listable() ? chunk * (bins + 1) : 0);
    entries = arena.take<Entry<T>>(room);
    starts = arena.take<int64_t>(chunk + 1);
    const double pixels = double(p.height) * double(pitch_of(p.width));
    patch_room = pixels < double(kPatch) ? int64_t(pixels) : kPatch;
    const double work =
        (double(p.n) * double(bins) + double(p.images) * pixels) * double(p.channels);
    workers = work < double(kWorkers << 14) ? at_least(1, int64_t(work) >> 14) : kWorkers;
    patches =
        arena.take<T>(p.channels_last || p.n == 0 ? 0 : workers * patch_room * kMostPlanes<T>);
  }

  DETCORE_HD bool listable() const { return bins < kMostEntries; }

  DETCORE_HD int64_t image_of(int64_t i) const {
    return int64_t(static_cast<const T*>(p.rois)[6 * i]);
  }

  // The index of the tile that contains a region's centre: sorted by image, row, column.
  DETCORE_HD int64_t tile_of(int64_t i) const {
    const T* roi = static_cast<const T*>(p.rois) + 6 * i;
    const auto tile = [&](T centre, int64_t size) {  // 0 for NaN
      const T at = centre * T(p.spatial_scale) * T(tiles) / T(size);
      return at > T(0) ? (at < T(tiles) ? int64_t(at) : tiles - 1) : 0;
    };
    return (image_of(i) * tiles + tile(roi[2], p.height)) * tiles + tile(roi[1], p.width);
  }

  // A counting sort by tile.
  void sort() {
    const int64_t count = p.images * tiles * tiles;
    for (int64_t t = 0; t <= count; ++t) first[t] = 0;
    for (int64_t i = 0; i < p.n; ++i) ++first[tile_of(i) + 1];
    for (int64_t t = 0; t < count; ++t) first[t + 1] += first[t];
    for (int64_t i = 0; i < p.n; ++i) order[first[tile_of(i)]++] = i;
  }

  // Lists the next regions of the order, as many as there is room for, and groups them. Returns
  // false if there are no more.
  bool next(const Executor& executor) {
    chunk_begin = chunk_end;
    if (chunk_begin == p.n) return false;
    plan();
    parallel_for(executor, chunk_end - chunk_begin, 32, [&](int64_t from, int64_t to) {
      ListWriter<T> writer;
      for (int64_t k = from; k < to; ++k) list(k, writer);
    });
    group();
    return true;
  }

  // Finds how many regions fit, and where their entries begin.
  void plan() {
    int64_t used = 0, k = 0;
    starts[0] = 0;
    for (; k < chunk && chunk_begin + k < p.n; ++k) {
      ListedRegion<T>& r = kept[k];
      r.roi = order[chunk_begin + k], r.image = image_of(r.roi);
      const int64_t wanted = most_entries(p, rotated_roi<T>(p, r.roi));
      r.listed = listable() && wanted <= room;
      if (r.listed && used + wanted > room) break;
      used += r.listed ? wanted : 0;
      starts[k + 1] = used;
    }
    chunk_end = chunk_begin + k;
  }

  void list(int64_t k, ListWriter<T>& writer) const {
    ListedRegion<T>& r = kept[k];
    const RotatedRoi<T> geometry = rotated_roi<T>(p, r.roi);
    r.box = pixels_of(geometry, 0, 0, p.out_height - 1, p.out_width - 1);
    int32_t* begin = begins + k * (bins + 1);
    r.begin = begin, r.entries = entries + starts[k];
    r.listed = r.listed && writer.write(p, geometry, r.box, begin, entries + starts[k],
                                        starts[k + 1] - starts[k]);
  }

  // Where to take pixels one by one costs more than to copy all that lie between them: in a whole
  // image, or in a part of it that grows as long as the next region is worth its new pixels.
  void group() {
    const int64_t count = chunk_end - chunk_begin;
    group_count = 0;
    for (int64_t k = 0; k < count;) {
      RegionGroup whole = grow(k, count, false);
      if (!whole.copied) whole = grow(k, count, true);
      groups[group_count++] = whole;
      k = whole.last;
    }
  }

  // The group that begins with region k: all of its image, or as long as it pays.
  RegionGroup grow(int64_t k, int64_t count, bool careful) const {
    RegionGroup g{k, k, {0, 0, 0, 0}, true};
    int64_t used = 0;
    for (; g.last < count && kept[g.last].image == kept[k].image; ++g.last) {
      const ListedRegion<T>& r = kept[g.last];
      if (!r.listed) continue;
      const PixelBox both = g.box.united(r.box);
      const int64_t more = both.area() - g.box.area();
      if (careful && g.last > k &&
          (more > kWorth * entries_of(r) || both.copied_area() > patch_room))
        break;
      g.box = both, used += entries_of(r);
    }
    g.copied = g.box.copied_area() <= patch_room && g.box.area() <= kWorth * used;
    if (careful && !g.copied) g.last = k + 1;
    return g;
  }
  DETCORE_HD int64_t entries_of(const ListedRegion<T>& r) const {
    return r.listed ? r.begin[bins] : 0;
  }
};

DETCORE_HD int64_t row_of(uint32_t pixel) { return pixel >> 16; }
DETCORE_HD int64_t column_of(uint32_t pixel) { return pixel & 0xffff; }

// The pixels of a group's box for a few planes at a time: [row, column, plane], two vectors of
// planes. Rows are padded to whole vectors.
template <class T>
struct Patch {
  static constexpr int64_t planes = 2 * Lanes<T>::width;

  T* pixels;
  int64_t pitch = 0;  // pixels per row

  DETCORE_HD void shape(const PixelBox& box) { pitch = pitch_of(box.width); }
  DETCORE_HD T* at(int64_t row, int64_t column) const {
    return pixels + (row * pitch + column) * planes;
  }
};

// Calls f(patch, begin, end) for parts of the units [0, count), on the caller's threads. Patches
// that no thread happens to need are never touched.
template <class T, class F>
DETCORE_HD void each_with_patch(const RotatedRegions<T>& regions, const Executor& executor,
                                int64_t count, double work, const F& f) {
  const int64_t workers = at_most(regions.workers, count);
  if (workers == 0) return;
  const double share = work * double(count) / double(workers);
  parallel_for(executor, workers, grain_of(share), [&](int64_t begin, int64_t end) {
    f(Patch<T>{regions.patches + begin * regions.patch_room * kMostPlanes<T>},
      count * begin / workers, count * end / workers);
  });
}

}  // namespace
}  // namespace DETCORE_ISA
}  // namespace detcore
