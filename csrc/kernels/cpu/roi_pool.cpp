// Forward. Of a contiguous (planar) map the maxima down the columns of a row of bins come first,
// with SIMD along the width. Then these of several planes are transposed, and those of a bin's
// columns are found with one plane per lane. Of a channels-last map SIMD goes along the channels,
// and the maxima of a bin stay in registers.
#include "detcore/roi_pool.h"

#include "kernel.h"
#include "simd_shuffle.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kColumns = 512;  // of a row of bins that are kept at once
constexpr int64_t kBins = 64;      // of a row, whose edges are kept at once

// The maxima so far, and their places, lane by lane.
template <class T>
struct Best {
  using L = Lanes<T>;
  using Places = typename VectorOf<T>::mask;  // whole numbers as wide as the values
  L value{T(kNoMaximum)};
  Places place = Places{} - 1;

  // In row-major order: of equal values the first stays.
  DETCORE_HD void see(L other, int32_t at) { take((other > value).v, other, Places{} + at); }
  // In any order: of equal values the one of the lower place wins.
  DETCORE_HD void see(L other, Places at) {
    take((other > value).v | ((other == value).v & (at < place)), other, at);
  }
  DETCORE_HD void take(Places more, L other, Places at) {
    value = Lanes<T>(more ? other.v : value.v);
    place = more ? at : place;
  }
};

template <class T>
DETCORE_HD void store_places(typename VectorOf<T>::mask places, int32_t* to, int64_t count) {
  if constexpr (sizeof(T) == sizeof(int32_t)) {  // moved as the floats of these bits
    const Lanes<T> bits(bit_cast<typename VectorOf<T>::type>(places));
    if (count == Lanes<T>::width)
      bits.store(reinterpret_cast<T*>(to));
    else
      store_lanes(bits, reinterpret_cast<T*>(to), count);
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = int32_t(places[i]);
  }
}

// Some bins of a row: their columns of the map.
struct BinColumns {
  int64_t first, count;  // bins; count 0: the first alone has more columns than are kept
  int64_t low, high;     // columns that they cover
  int32_t begin[kBins], end[kBins];

  template <class T>
  DETCORE_HD BinColumns(const RoiBins<T>& columns, int64_t first, int64_t bins)
      : first(first), count(0), low(columns.begin(first)), high(low) {
    for (int64_t b = first; count < kBins && b < bins; ++b) {
      if (columns.end(b) - low > kColumns) return;
      begin[count] = int32_t(columns.begin(b));
      high = end[count++] = int32_t(columns.end(b));
    }
  }
};

// Pools one region from planes of a planar map, W of them at once.
template <class S>
struct Planar {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  using Places = typename Best<T>::Places;
  static constexpr int64_t W = L::width, kLine = kColumns + W;

  const RoiPoolParams& p;
  // the maximum of each column of a row of bins, and its row's offset in the plane or -1
  alignas(64) T values[W * kLine];         // [plane, x]
  alignas(64) T offsets[W * kLine];        // likewise; the bits are those of a lane of places
  alignas(64) T turned_values[kLine * W];  // [x, plane]
  alignas(64) T turned_offsets[kLine * W];

  DETCORE_HD explicit Planar(const RoiPoolParams& params) : p(params) {}

  void pool(int64_t r, int64_t c0, int64_t c1) {
    const T* roi = roi_of<T>(p, r);
    const RoiBins<T> rows = row_bins(p, roi), columns = column_bins(p, roi);
    const int64_t bins = int64_t(p.out_height) * p.out_width, image = int64_t(roi[0]);
    for (int64_t first = 0; first < p.out_width;) {
      const BinColumns some(columns, first, p.out_width);
      for (int64_t c = c0; c < c1; c += W)
        for (int64_t by = 0; by < p.out_height; ++by) {
          const int64_t at = (r * p.channels + c) * bins + by * p.out_width + first;
          // a row may be written as whole vectors if what they write too much of is written later
          const bool alone = some.count == p.out_width;
          const Rows block{image * p.channels + c,
                           at_most(W, c1 - c),
                           rows.begin(by),
                           rows.end(by),
                           at,
                           bins,
                           alone ? bins - by * p.out_width : 0};
          if (some.count > 0)
            pool_bins(block, some);
          else
            pool_by_pixels(block, columns.begin(first), columns.end(first));
        }
      first += at_least(1, some.count);
    }
  }

  // Rows of some planes, and where their first bin is written.
  struct Rows {
    int64_t plane, planes;
    int64_t top, bottom;
    int64_t at, step;  // step: from plane to plane
    int64_t room;      // bins from the first to the end of a plane, if all are written in order
  };

  const S* map(int64_t plane) const {
    return static_cast<const S*>(p.map) + plane * p.height * p.width;
  }

  void pool_bins(const Rows& rows, const BinColumns& some) {
    for (int64_t l = 0; l < W; ++l) reduce_rows(rows, some, l);
    for (int64_t x = 0; x < some.high - some.low; x += W) {
      turn(values + x, turned_values + x * W);
      turn(offsets + x, turned_offsets + x * W);
    }
    for (int64_t b = 0; b < some.count; b += W) reduce_columns(rows, some, b);
  }

  // The maxima down each column of plane l. A lane without a plane repeats the last one.
  void reduce_rows(const Rows& rows, const BinColumns& some, int64_t l) {
    const int64_t plane = rows.plane + at_most(rows.planes - 1, l);
    const int64_t left = (p.images * p.channels - plane) * p.height * p.width;
    const S* from = map(plane);
    for (int64_t x = some.low; x < some.high; x += W) {
      Best<T> best;
      // whole vectors may read past the row, but not past the last plane
      const bool whole = (rows.bottom - 1) * p.width + x + W <= left;
      const int64_t count = whole ? W : at_most(W, some.high - x);
      for (int64_t y = rows.top; y < rows.bottom; ++y) {
        L lanes;
        if (whole)
          lanes = load_lanes(from + y * p.width + x);
        else
          load_lanes(from + y * p.width + x, count, lanes);
        best.see(lanes, int32_t(y * p.width));
      }
      const int64_t to = l * kLine + x - some.low;
      best.value.store(values + to);
      memcpy(offsets + to, &best.place, sizeof best.place);
    }
  }

  static void turn(const T* from, T* to) {
    L square[W];
    for (int64_t l = 0; l < W; ++l) square[l] = L::load(from + l * kLine);
    transpose(square);
    for (int64_t l = 0; l < W; ++l) square[l].store(to + l * W);
  }

  // The maxima of bins [b, b + W) of all planes.
  void reduce_columns(const Rows& rows, const BinColumns& some, int64_t b) const {
    const int64_t count = at_most(W, some.count - b);
    L found[W], places[W];
    for (int64_t k = 0; k < W; ++k) {
      Best<T> best;
      if (k < count) {
        for (int64_t x = some.begin[b + k]; x < some.end[b + k]; ++x) {
          Places at;
          memcpy(&at, turned_offsets + (x - some.low) * W, sizeof at);
          best.see(L::load(turned_values + (x - some.low) * W), at + int32_t(x));
        }
        const bool empty = rows.top >= rows.bottom || some.begin[b + k] >= some.end[b + k];
        if (empty) best.value = L(T(0));
      }
      found[k] = best.value, places[k] = L(bit_cast<typename L::Vector>(best.place));
    }
    transpose(found), transpose(places);
    const int64_t whole = b + W <= rows.room ? W : count;
    for (int64_t l = 0; l < rows.planes; ++l) {
      const int64_t to = rows.at + l * rows.step + b;
      if (whole == W)
        store_lanes(found[l], static_cast<S*>(p.out) + to);
      else
        store_lanes(found[l], static_cast<S*>(p.out) + to, count);
      store_places<T>(bit_cast<Places>(places[l].v), p.argmax + to, whole);
    }
  }

  // One bin, which is too wide to be kept.
  void pool_by_pixels(const Rows& rows, int64_t left, int64_t right) const {
    for (int64_t l = 0; l < rows.planes; ++l) {
      const S* from = map(rows.plane + l);
      T best = rows.top < rows.bottom ? T(kNoMaximum) : T(0);
      int32_t place = -1;
      for (int64_t y = rows.top; y < rows.bottom; ++y)
        for (int64_t x = left; x < right; ++x) {
          const T other = widen(from[y * p.width + x]);
          if (other > best) best = other, place = int32_t(y * p.width + x);
        }
      const int64_t to = rows.at + l * rows.step;
      narrow(best, static_cast<S*>(p.out)[to]);
      p.argmax[to] = place;
    }
  }
};

// Pools one row of bins from all channels of a channels-last map.
template <class S>
struct ChannelsLast {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width;

  const RoiPoolParams& p;

  void pool(int64_t r, int64_t by) const {
    const T* roi = roi_of<T>(p, r);
    const RoiBins<T> rows = row_bins(p, roi), columns = column_bins(p, roi);
    const S* map = static_cast<const S*>(p.map) + int64_t(roi[0]) * p.height * p.width * p.channels;
    for (int64_t bx = 0; bx < p.out_width; ++bx) {
      const int64_t at = ((r * p.out_height + by) * p.out_width + bx) * p.channels;
      S* out = static_cast<S*>(p.out) + at;
      int32_t* argmax = p.argmax + at;
      const Bin bin{map,     rows.begin(by), rows.end(by), columns.begin(bx), columns.end(bx),
                    p.width, p.channels};
      int64_t c = 0;
      for (; c + 4 * W <= p.channels; c += 4 * W) bin.template see<4>(c, 4 * W, out, argmax);
      for (; c < p.channels; c += W)
        bin.template see<1>(c, at_most(W, p.channels - c), out, argmax);
    }
  }

  struct Bin {
    const S* map;
    int64_t top, bottom, left, right;
    int64_t width, channels;

    template <int kBlocks>
    void see(int64_t c, int64_t count, S* out, int32_t* argmax) const {
      Best<T> best[kBlocks];
      for (int64_t y = top; y < bottom; ++y)
        for (int64_t x = left; x < right; ++x) {
          const int64_t pixel = y * width + x;
          const S* from = map + pixel * channels + c;
          for (int k = 0; k < kBlocks; ++k) {
            L lanes;
            if (kBlocks > 1 || count == W)
              lanes = load_lanes(from + k * W);
            else
              load_lanes(from, count, lanes);
            best[k].see(lanes, int32_t(pixel));
          }
        }
      const bool empty = top >= bottom || left >= right;
      for (int k = 0; k < kBlocks; ++k) {
        const int64_t some = kBlocks > 1 ? W : count;
        store_lanes(empty ? L(T(0)) : best[k].value, out + c + k * W, some);
        store_places<T>(best[k].place, argmax + c + k * W, some);
      }
    }
  };
};

template <class S>
void pool_planes(const RoiPoolParams& p, const Executor& executor) {
  // as many planes as are pooled at once, so that they stay in cache for all regions
  constexpr int64_t per = Planar<S>::W, kUnits = 64, kRegions = 16;
  const int64_t blocks = divide_up(p.channels, per);
  const int64_t parts =
      at_least(1, at_most(divide_up(kUnits, at_least(1, blocks)), p.n / kRegions));
  const double bins = double(p.out_height) * p.out_width;
  parallel_for(executor, blocks * parts, grain_of(double(p.n) / double(parts) * per * bins * 16),
               [&](int64_t begin, int64_t end) {
                 Planar<S> pooling(p);
                 for (int64_t unit = begin; unit < end; ++unit) {
                   const int64_t c0 = unit / parts * per, part = unit % parts;
                   const int64_t c1 = at_most(p.channels, c0 + per);
                   const int64_t last = p.n * (part + 1) / parts;
                   for (int64_t r = p.n * part / parts; r < last; ++r) pooling.pool(r, c0, c1);
                 }
               });
}

}  // namespace

Status roi_pool(const RoiPoolParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    if (!p.channels_last) return pool_planes<S>(p, executor), Status{};
    const double work = double(p.out_width) * double(p.channels) * 4;
    parallel_for(executor, p.n * p.out_height, grain_of(work), [&](int64_t begin, int64_t end) {
      const ChannelsLast<S> pooling{p};
      for (int64_t unit = begin; unit < end; ++unit)
        pooling.pool(unit / p.out_height, unit % p.out_height);
    });
    return Status{};
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(roi_pool, RoiPoolParams)
