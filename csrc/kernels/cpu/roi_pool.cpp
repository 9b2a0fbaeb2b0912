// Forward. Of a contiguous (planar) map the maxima down the columns of a row of bins come first,
// with SIMD along the width, and then those of a bin's columns. Of a channels-last map SIMD goes
// along the channels, and the maxima of a bin stay in registers.
#include "detcore/roi_pool.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kColumns = 2048;  // of a row of bins that are kept at once
constexpr int64_t kBins = 64;       // of a row, whose edges are kept at once

// The maximum so far, and where it is. W lanes side by side, or one value.
template <class T>
struct Best {
  using L = Lanes<T>;
  using Places = typename VectorOf<T>::mask;  // whole numbers as wide as the values
  L value{T(kNoMaximum)};
  Places place = Places{} - 1;

  DETCORE_HD void see(L other, int32_t at) {
    const auto more = (other > value).v;
    value.v = more ? other.v : value.v;
    place = more ? Places{} + at : place;
  }
};

template <class T>
DETCORE_HD void store_places(typename VectorOf<T>::mask places, int32_t* to, int64_t count) {
  typedef int32_t Narrow __attribute__((vector_size(sizeof(int32_t) * Lanes<T>::width)));
  const Narrow narrow = __builtin_convertvector(places, Narrow);
  if (count == Lanes<T>::width) {
    memcpy(to, &narrow, sizeof narrow);
  } else {
    memcpy(to, &narrow, count * sizeof(int32_t));
  }
}

// Some bins of a row: their columns of the map, and where to write them.
struct BinColumns {
  int64_t first, count;  // bins
  int64_t low, high;     // columns that they cover
  int32_t begin[kBins], end[kBins];

  template <class T>
  DETCORE_HD BinColumns(const RoiBins<T>& columns, int64_t from, int64_t bins)
      : first(from), count(at_most(kBins, bins - from)) {
    for (int64_t b = 0; b < count; ++b) {
      begin[b] = int32_t(columns.begin(from + b));
      end[b] = int32_t(columns.end(from + b));
    }
    low = begin[0], high = end[count - 1];
  }
};

// Pools one region from planes [c0, c1) of a planar map.
template <class S>
struct Planar {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width;

  const RoiPoolParams& p;
  // of each column of a row of bins: the maximum, and the row's offset in the plane or -1
  alignas(64) T value[kColumns + W];
  alignas(64) int32_t row[kColumns + W];

  DETCORE_HD explicit Planar(const RoiPoolParams& params) : p(params) {}

  void pool(int64_t r, int64_t c0, int64_t c1) {
    const T* roi = roi_of<T>(p, r);
    const RoiBins<T> rows = row_bins(p, roi), columns = column_bins(p, roi);
    const int64_t bins = int64_t(p.out_height) * p.out_width;
    for (int64_t first = 0; first < p.out_width; first += kBins) {
      const BinColumns some(columns, first, p.out_width);
      for (int64_t c = c0; c < c1; ++c)
        for (int64_t by = 0; by < p.out_height; ++by) {
          const int64_t at = (r * p.channels + c) * bins + by * p.out_width + first;
          pool_row(int64_t(roi[0]) * p.channels + c, rows.begin(by), rows.end(by), some,
                   static_cast<S*>(p.out) + at, p.argmax + at);
        }
    }
  }

  void pool_row(int64_t plane, int64_t top, int64_t bottom, const BinColumns& some, S* out,
                int32_t* argmax) {
    const int64_t pixels = p.height * p.width, ends = (p.images * p.channels - plane) * pixels;
    const S* from = static_cast<const S*>(p.map) + plane * pixels;
    // columns are kept in pieces; a bin of two pieces goes on where the last one ended
    int64_t low = some.low;
    bool onto = false;
    do {
      const int64_t high = at_most(some.high, low + kColumns);
      for (int64_t x = low; x < high; x += W) {
        Best<T> best;
        // whole vectors may read past the row, but not past the last plane
        if ((bottom - 1) * p.width + x + W <= ends) {
          for (int64_t y = top; y < bottom; ++y)
            best.see(load_lanes(from + y * p.width + x), int32_t(y * p.width));
        } else {
          L lanes;
          for (int64_t y = top; y < bottom; ++y) {
            load_lanes(from + y * p.width + x, at_most(W, high - x), lanes);
            best.see(lanes, int32_t(y * p.width));
          }
        }
        best.value.store(value + (x - low));
        store_places<T>(best.place, row + (x - low), W);
      }
      for (int64_t b = 0; b < some.count; ++b) {
        const int64_t left = at_least(low, some.begin[b]), right = at_most(high, some.end[b]);
        if (!onto || left < right) pool_bin(low, left, right, onto && some.begin[b] < low, from,
                                            out[b], argmax[b]);
        if (top >= bottom || some.begin[b] >= some.end[b]) narrow(T(0), out[b]);
      }
      low = high, onto = true;
    } while (low < some.high);
  }

  // The first of the greatest values in columns [left, right): the uppermost, then the leftmost.
  void pool_bin(int64_t low, int64_t left, int64_t right, bool onto, const S* from, S& out,
                int32_t& argmax) const {
    T best = T(kNoMaximum);
    int32_t best_row = -1, best_x = 0;
    if (onto && argmax >= 0) {
      best = widen(from[argmax]);
      best_x = int32_t(argmax % p.width), best_row = argmax - best_x;
    }
    for (int64_t x = left; x < right; ++x) {
      const T other = value[x - low];
      const int32_t other_row = row[x - low];
      const bool better = (other > best) | ((other == best) & (other_row < best_row));
      best = better ? other : best;
      best_row = better ? other_row : best_row;
      best_x = better ? int32_t(x) : best_x;
    }
    narrow(best, out);
    argmax = best_row < 0 ? -1 : best_row + best_x;
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
      const Bin bin{map, rows.begin(by), rows.end(by), columns.begin(bx), columns.end(bx),
                    p.width, p.channels};
      int64_t c = 0;
      for (; c + 4 * W <= p.channels; c += 4 * W) bin.template see<4>(c, 4 * W, out, argmax);
      for (; c < p.channels; c += W) bin.template see<1>(c, at_most(W, p.channels - c), out, argmax);
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

// Units of work per thread: each thread costs time too.
DETCORE_HD int64_t grain_of(double operations_a_unit) {
  constexpr double enough = 1 << 19;  // about 50 us
  return operations_a_unit < enough ? int64_t(enough / (operations_a_unit + 1)) + 1 : 1;
}

template <class S>
void pool_planes(const RoiPoolParams& p, const Executor& executor) {
  // few planes at a time, so that they stay in cache for all regions
  constexpr int64_t kCache = 256 << 10, kMostPlanes = 8, kUnits = 64, kRegions = 16;
  const int64_t plane = at_least(1, p.height * p.width * int64_t(sizeof(S)));
  const int64_t per = at_least(1, at_most(kMostPlanes, kCache / plane));
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
