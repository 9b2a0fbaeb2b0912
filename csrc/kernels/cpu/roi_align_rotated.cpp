// Forward of roi_align_rotated. The weights of a turned region are not separable, so each bin goes
// through a list of pixels. Of a contiguous (planar) map two vectors of planes are pooled together,
// one plane per lane: the pixels of neighbouring regions are transposed to a patch that stays in
// cache, or, where few of them are used, taken one by one. Of a channels-last map SIMD goes along
// the channels, and the sums of a bin stay in registers.
#include "roi_align_rotated_lists.h"
#include "simd_shuffle.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// Pools channels [c0, c1) of one region without lists, in either layout.
template <class S, class T>
void pool_by_samples(const RoiAlignRotatedParams& p, const ListedRegion<T>& r, int64_t c0,
                     int64_t c1) {
  const RotatedRoi<T> geometry = rotated_roi<T>(p, r.roi);
  const int64_t bins = int64_t(p.out_height) * p.out_width, plane = p.height * p.width;
  const S* map = static_cast<const S*>(p.map) + r.image * p.channels * plane;
  S* out = static_cast<S*>(p.out) + r.roi * p.channels * bins;
  for (int64_t bin = 0; bin < bins; ++bin)
    for (int64_t c = c0; c < c1; ++c) {
      T sum = T(0);
      each_tap(geometry, bin / p.out_width, bin % p.out_width, [&](int64_t x, int64_t y, T w) {
        const int64_t pixel = y * p.width + x;
        sum += w * widen(map[p.channels_last ? pixel * p.channels + c : c * plane + pixel]);
      });
      narrow(sum, out[p.channels_last ? bin * p.channels + c : c * bins + bin]);
    }
}

// Pools regions [begin, end) of a group from planes [c0, c1), at most Patch::planes of them.
template <class S>
struct Planar {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width, planes = Patch<T>::planes;

  const RoiAlignRotatedParams& p;
  Patch<T> patch;

  void pool(const RotatedRegions<T>& regions, const RegionGroup& group, int64_t begin, int64_t end,
            int64_t c0, int64_t c1) {
    const int64_t plane = p.height * p.width, image = regions.kept[group.first].image;
    const S* map = static_cast<const S*>(p.map) + (image * p.channels + c0) * plane;
    if (group.copied) copy(map, group.box, c1 - c0);
    for (int64_t k = begin; k < end; ++k) {
      const ListedRegion<T>& r = regions.kept[k];
      if (!r.listed)
        pool_by_samples<S>(p, r, c0, c1);
      else if (group.copied)
        pool_region(r, c0, c1, [&](int32_t begin, int32_t end, L& low, L& high) {
          sum_of_patch(r, group.box, begin, end, low, high);
        });
      else
        pool_region(r, c0, c1, [&](int32_t begin, int32_t end, L& low, L& high) {
          sum_of_map(r, map, c1 - c0, begin, end, low, high);
        });
    }
  }

  // Transposes the pixels of a box to the patch. Planes that are not there are zeros.
  void copy(const S* map, const PixelBox& box, int64_t there) {
    patch.shape(box);
    const int64_t plane = p.height * p.width;
    const S* end = static_cast<const S*>(p.map) + p.images * p.channels * plane;
    for (int64_t row = 0; row < box.height; ++row) {
      const S* from = map + (box.y + row) * p.width + box.x;
      for (int64_t x = 0; x < box.width; x += W)
        for (int64_t half = 0; half < planes; half += W) {
          L square[W];
          for (int64_t l = 0; l < W; ++l) {
            const S* at = from + (half + l) * plane + x;
            if (half + l >= there)
              square[l] = L(T(0));
            else if (end - at >= W)
              square[l] = load_lanes(at);  // past the box, which no bin uses
            else
              load_lanes(at, at_most(W, box.width - x), square[l]);
          }
          transpose(square);
          for (int64_t l = 0; l < W; ++l) square[l].store(patch.at(row, x + l) + half);
        }
    }
  }

  DETCORE_HD void sum_of_patch(const ListedRegion<T>& r, const PixelBox& box, int32_t begin,
                               int32_t end, L& low, L& high) {
    const T* corner = patch.at(r.box.y - box.y, r.box.x - box.x);
    for (int32_t e = begin; e < end; ++e) {
      const Entry<T> entry = r.entries[e];
      const T* at = corner + (row_of(entry.pixel) * patch.pitch + column_of(entry.pixel)) * planes;
      const L weight(entry.weight);
      low = low + weight * L::load(at), high = high + weight * L::load(at + W);
    }
  }

  DETCORE_HD void sum_of_map(const ListedRegion<T>& r, const S* map, int64_t there, int32_t begin,
                             int32_t end, L& low, L& high) const {
    const int64_t plane = p.height * p.width;
    const S* corner = map + r.box.y * p.width + r.box.x;
    for (int32_t e = begin; e < end; ++e) {
      const Entry<T> entry = r.entries[e];
      const S* at = corner + row_of(entry.pixel) * p.width + column_of(entry.pixel);
      const L weight(entry.weight);
      low = low + weight * gather(at, plane, there);
      high = high + weight * gather(at + W * plane, plane, there - W);
    }
  }
  // One pixel of W planes.
  DETCORE_HD static L gather(const S* at, int64_t plane, int64_t there) {
    T values[W];
    for (int64_t l = 0; l < W; ++l) values[l] = l < there ? widen(at[l * plane]) : T(0);
    return L::load(values);
  }

  // Pools one region; sum(begin, end, low, high) adds the entries of a bin.
  template <class F>
  DETCORE_HD void pool_region(const ListedRegion<T>& r, int64_t c0, int64_t c1, const F& sum) {
    const int64_t bins = int64_t(p.out_height) * p.out_width;
    S* out = static_cast<S*>(p.out) + (r.roi * p.channels + c0) * bins;
    for (int64_t b = 0; b < bins; b += W) {
      const int64_t some = at_most(W, bins - b);
      L low[W], high[W];
      for (int64_t k = 0; k < W; ++k) {
        low[k] = high[k] = L(T(0));
        if (k < some) sum(r.begin[b + k], r.begin[b + k + 1], low[k], high[k]);
      }
      store(low, out + b, bins, c1 - c0, some);
      store(high, out + W * bins + b, bins, c1 - c0 - W, some);
    }
  }
  static void store(L (&square)[W], S* to, int64_t bins, int64_t there, int64_t some) {
    transpose(square);
    for (int64_t l = 0; l < at_most(W, there); ++l) store_lanes(square[l], to + l * bins, some);
  }
};

// Pools one region from all channels of a channels-last map.
template <class S>
struct ChannelsLast {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width;

  const RoiAlignRotatedParams& p;

  void pool(const RotatedRegions<T>& regions, const ListedRegion<T>& r) const {
    if (!r.listed) return pool_by_samples<S>(p, r, 0, p.channels);
    const int64_t corner = (r.image * p.height + r.box.y) * p.width + r.box.x;
    const S* map = static_cast<const S*>(p.map) + corner * p.channels;
    S* out = static_cast<S*>(p.out) + r.roi * regions.bins * p.channels;
    for (int64_t bin = 0; bin < regions.bins; ++bin, out += p.channels) {
      int64_t c = 0;
      for (; c + 8 * W <= p.channels; c += 8 * W) sum<8>(r, bin, map + c, out + c);
      for (; c + 2 * W <= p.channels; c += 2 * W) sum<2>(r, bin, map + c, out + c);
      for (; c < p.channels; c += W) sum_some(r, bin, map + c, out + c, at_most(W, p.channels - c));
    }
  }

  // Calls f(the channels of a pixel, weight) for each entry of a bin.
  template <class F>
  DETCORE_HD void each(const ListedRegion<T>& r, int64_t bin, const S* map, const F& f) const {
    for (int32_t e = r.begin[bin]; e < r.begin[bin + 1]; ++e) {
      const Entry<T> entry = r.entries[e];
      f(map + (row_of(entry.pixel) * p.width + column_of(entry.pixel)) * p.channels,
        L(entry.weight));
    }
  }
  template <int kBlocks>
  void sum(const ListedRegion<T>& r, int64_t bin, const S* map, S* to) const {
    L sums[kBlocks];
    for (int k = 0; k < kBlocks; ++k) sums[k] = L(T(0));
    each(r, bin, map, [&](const S* at, L weight) {
      for (int k = 0; k < kBlocks; ++k) sums[k] = sums[k] + weight * load_lanes(at + k * W);
    });
    for (int k = 0; k < kBlocks; ++k) store_lanes(sums[k], to + k * W);
  }
  void sum_some(const ListedRegion<T>& r, int64_t bin, const S* map, S* to, int64_t count) const {
    L sums(T(0)), value;
    each(r, bin, map, [&](const S* at, L weight) {
      load_lanes(at, count, value);
      sums = sums + weight * value;
    });
    store_lanes(sums, to, count);
  }
};

// Pools the regions of a chunk. If the blocks of planes are enough for many threads, a unit of work
// is all regions.
template <class S, class T>
void pool_planes(const RoiAlignRotatedParams& p, const RotatedRegions<T>& regions,
                 const Executor& executor) {
  constexpr int64_t kUnits = 16, kRegions = 16, per = Patch<T>::planes;
  const int64_t blocks = divide_up(p.channels, per), n = regions.chunk_end - regions.chunk_begin;
  const int64_t parts = at_least(1, at_most(divide_up(kUnits, at_least(1, blocks)), n / kRegions));
  const double work = double(n) * double(regions.bins) * double(per) * 16 / double(parts);
  each_with_patch(regions, executor, blocks * parts, work,
                  [&](const Patch<T>& patch, int64_t first, int64_t last) {
                    Planar<S> pooling{p, patch};
                    for (int64_t unit = first; unit < last; ++unit) {
                      const int64_t c0 = unit / parts * per, part = unit % parts;
                      const int64_t from = n * part / parts, to = n * (part + 1) / parts;
                      for (int64_t g = 0; g < regions.group_count; ++g) {
                        const RegionGroup& group = regions.groups[g];
                        const int64_t begin = at_least(from, group.first);
                        const int64_t end = at_most(to, group.last);
                        if (begin < end)
                          pooling.pool(regions, group, begin, end, c0,
                                       at_most(p.channels, c0 + per));
                      }
                    }
                  });
}

}  // namespace

Status roi_align_rotated(const RoiAlignRotatedParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    RotatedRegions<T> regions(p);
    regions.sort();
    while (regions.next(executor)) {
      if (p.channels_last) {
        const double work = double(regions.bins) * double(p.channels) * 16;
        parallel_for(executor, regions.chunk_end - regions.chunk_begin, grain_of(work),
                     [&](int64_t begin, int64_t end) {
                       const ChannelsLast<S> pooling{p};
                       for (int64_t k = begin; k < end; ++k) pooling.pool(regions, regions.kept[k]);
                     });
      } else {
        pool_planes<S>(p, regions, executor);
      }
    }
    return Status{};
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(roi_align_rotated, RoiAlignRotatedParams)

#if defined(DETCORE_ISA_IS_BASELINE)
namespace detcore {
// The size depends on the arithmetic type, not on the instruction set.
size_t roi_align_rotated_workspace_cpu(const RoiAlignRotatedParams& params) {
  RoiAlignRotatedParams p = params;
  p.workspace = nullptr;
  return p.dtype == DType::f64 ? RotatedRegions<double>(p).arena.used
                               : RotatedRegions<float>(p).arena.used;
}
}  // namespace detcore
#endif
