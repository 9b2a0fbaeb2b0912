// Forward of roi_align and multiscale_roi_align. For contiguous (planar) maps rows are reduced
// first, with SIMD along the width. Then the reduced lines of several planes are transposed, and
// columns are reduced with one plane per lane. For channels-last maps SIMD goes along the channels,
// and the sums of a bin stay in registers. No map is copied.
#include "roi_align_weights.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// Pools channels [c0, c1) of one region whose lists do not fit, in either layout.
template <class S, class T>
void pool_by_samples(const RoiAlignParams& p, const Region<T>& r, const S* map, S* out, int64_t c0,
                     int64_t c1) {
  const RoiLevel& level = p.levels[r.level];
  const Layout from(p.channels, level.height, level.width, p.channels_last);
  const Layout to(p.channels, p.out_height, p.out_width, p.channels_last);
  for (int64_t c = c0; c < c1; ++c) {
    for (int64_t by = 0; by < p.out_height; ++by)
      for (int64_t bx = 0; bx < p.out_width; ++bx)
        narrow(T(0), out[c * to.channel + by * to.row + bx * to.column]);
    // the taps of a bin are consecutive, so we store its sum when the next bin begins
    int64_t bin = -1;
    T sum = T(0);
    each_tap(p, r, from, [&](int64_t by, int64_t bx, int64_t pixel, T w) {
      const int64_t at = c * to.channel + by * to.row + bx * to.column;
      if (at != bin) sum = T(0), bin = at;
      sum += w * widen(map[c * from.channel + pixel]);
      narrow(sum, out[at]);
    });
  }
}

// Pools one region from planes [c0, c1) of a planar map.
template <class S>
struct Planar {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width;

  const RoiAlignParams& p;
  alignas(64) T lines[W * (kMostEntries + W)];   // [plane, x]
  alignas(64) T turned[(kMostEntries + W) * W];  // [x, plane]

  DETCORE_HD explicit Planar(const RoiAlignParams& params) : p(params) {}

  void pool(const Region<T>& r, int64_t c0, int64_t c1) {
    const RoiLevel& level = p.levels[r.level];
    const int64_t plane = level.height * level.width, outputs = int64_t(p.out_height) * p.out_width;
    const S* map = static_cast<const S*>(level.map) + r.image * p.channels * plane;
    S* out = static_cast<S*>(p.out) + r.roi * p.channels * outputs;
    if (!r.listed) return pool_by_samples(p, r, map, out, c0, c1);
    const int64_t corner = r.rows.low * level.width + r.columns.low;
    const int64_t span = r.columns.span, width = divide_up(span, W) * W;
    // whole vectors may read past the region and the row (for tiny maps even past the next plane),
    // but not past the last plane of the last image
    const int64_t last = corner + (r.rows.span - 1) * level.width + width;
    const int64_t planes_read = divide_up(last, at_least(1, plane));
    const int64_t planes_there = (p.images - r.image) * p.channels;
    for (int64_t c = c0; c < c1; c += W) {
      const int64_t some = at_most(W, c1 - c);
      const S* from = map + c * plane + corner;
      // one output row at a time: all planes use the same map rows, so branches are predictable
      for (int64_t by = 0; by < p.out_height; ++by) {
        const int64_t whole = at_least(0, at_most(some, planes_there - c - planes_read + 1));
        reduce_rows(from, plane, level.width, r.rows, by, whole, width);
        for (int64_t l = whole; l < some; ++l)
          reduce_rows_exactly(from + l * plane, level.width, r.rows, by, span, lines + l * width);
        turn(width);
        reduce_columns(r.columns, out + c * outputs + by * p.out_width, outputs, some);
      }
    }
  }

  // For output row `by`: lines[l, x] = sum of weight * row[x] over the rows of plane l, four at a
  // time.
  void reduce_rows(const S* from, int64_t plane, int64_t stride, const AxisWeights<T>& rows,
                   int64_t by, int64_t planes, int64_t width) {
    const int32_t begin = rows.begin[by], end = rows.begin[by + 1];
    int32_t e = begin;
    do {
      const Group group{from, plane, stride, rows, e, planes, width};
      const int32_t left = end - e;
      if (left >= 4)
        add_rows<4>(group, e > begin);
      else if (left == 3)
        add_rows<3>(group, e > begin);
      else if (left == 2)
        add_rows<2>(group, e > begin);
      else if (left == 1)
        add_rows<1>(group, e > begin);
      else if (left == 0 && e == begin)
        add_rows<0>(group, false);
      e += 4;
    } while (e < end);
  }

  struct Group {
    const S* from;
    int64_t plane, stride;
    const AxisWeights<T>& rows;
    int32_t first;
    int64_t planes, width;
  };

  template <int kRows>
  void add_rows(const Group& g, bool onto) {
    const S* row[kRows + 1] = {};
    L weight[kRows + 1];
    for (int k = 0; k < kRows; ++k) {
      row[k] = g.from + g.rows.pixel[g.first + k] * g.stride;
      weight[k] = L(g.rows.weight[g.first + k]);
    }
    T* to = lines;
    for (int64_t l = 0; l < g.planes; ++l, to += g.width) {
      for (int64_t x = 0; x < g.width; x += W) {
        L sum = onto ? L::load(to + x) : L(T(0));
        for (int k = 0; k < kRows; ++k) sum = sum + weight[k] * load_lanes(row[k] + x);
        sum.store(to + x);
      }
      for (int k = 0; k < kRows; ++k) row[k] += g.plane;
    }
  }

  // The line of one plane, without reading past the region.
  static void reduce_rows_exactly(const S* from, int64_t stride, const AxisWeights<T>& rows,
                                  int64_t by, int64_t span, T* to) {
    for (int64_t x = 0; x < span; x += W) {
      L sum(T(0)), value;
      for (int32_t e = rows.begin[by]; e < rows.begin[by + 1]; ++e) {
        load_lanes(from + rows.pixel[e] * stride + x, at_most(W, span - x), value);
        sum = sum + L(rows.weight[e]) * value;
      }
      sum.store(to + x);
    }
  }

  // Transposes lines [W, width] to turned [width, W].
  void turn(int64_t width) {
    for (int64_t x = 0; x < width; x += W) {
      L square[W];
      for (int64_t l = 0; l < W; ++l) square[l] = L::load(lines + l * width + x);
      transpose(square);
      for (int64_t l = 0; l < W; ++l) square[l].store(turned + (x + l) * W);
    }
  }

  // Computes one output row of `planes` planes. Their outputs are `outputs` elements apart.
  void reduce_columns(const AxisWeights<T>& columns, S* out, int64_t outputs,
                      int64_t planes) const {
    for (int64_t b = 0; b < p.out_width; b += W) {
      const int64_t some = at_most(W, p.out_width - b);
      L square[W];
      for (int64_t k = 0; k < W; ++k) {
        square[k] = L(T(0));
        if (k >= some) continue;
        for (int32_t e = columns.begin[b + k]; e < columns.begin[b + k + 1]; ++e)
          square[k] = square[k] + L(columns.weight[e]) * L::load(turned + columns.pixel[e] * W);
      }
      transpose(square);
      for (int64_t l = 0; l < planes; ++l) store_lanes(square[l], out + l * outputs + b, some);
    }
  }
};

// Pools one region from channels [c0, c1) of a channels-last map.
template <class S>
struct ChannelsLast {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width;

  const RoiAlignParams& p;

  void pool(const Region<T>& r, int64_t c0, int64_t c1) const {
    const RoiLevel& level = p.levels[r.level];
    const S* map =
        static_cast<const S*>(level.map) + r.image * level.height * level.width * p.channels;
    S* out = static_cast<S*>(p.out) + r.roi * p.out_height * p.out_width * p.channels;
    if (!r.listed) return pool_by_samples(p, r, map, out, c0, c1);
    const S* corner = map + (r.rows.low * level.width + r.columns.low) * p.channels;
    for (int64_t by = 0; by < p.out_height; ++by)
      for (int64_t bx = 0; bx < p.out_width; ++bx, out += p.channels) {
        const Bin bin{r, by, bx, level.width * p.channels, p.channels};
        int64_t c = c0;
        for (; c + 8 * W <= c1; c += 8 * W) bin.template sum<8>(corner + c, out + c);
        for (; c + 2 * W <= c1; c += 2 * W) bin.template sum<2>(corner + c, out + c);
        for (; c < c1; c += W) bin.sum_exactly(corner + c, out + c, at_most(W, c1 - c));
      }
  }

  struct Bin {
    const Region<T>& r;
    int64_t by, bx, row, column;

    // Calls f(offset from the corner, weight) for each entry.
    template <class F>
    DETCORE_HD void each(const F& f) const {
      for (int32_t ey = r.rows.begin[by]; ey < r.rows.begin[by + 1]; ++ey)
        for (int32_t ex = r.columns.begin[bx]; ex < r.columns.begin[bx + 1]; ++ex)
          f(r.rows.pixel[ey] * row + r.columns.pixel[ex] * column,
            r.rows.weight[ey] * r.columns.weight[ex]);
    }

    template <int kBlocks>
    void sum(const S* from, S* to) const {
      L sums[kBlocks];
      for (int k = 0; k < kBlocks; ++k) sums[k] = L(T(0));
      each([&](int64_t pixel, T weight) {
        const L w(weight);
        for (int k = 0; k < kBlocks; ++k) sums[k] = sums[k] + w * load_lanes(from + pixel + k * W);
      });
      for (int k = 0; k < kBlocks; ++k) store_lanes(sums[k], to + k * W);
    }

    void sum_exactly(const S* from, S* to, int64_t count) const {
      L sums(T(0)), value;
      each([&](int64_t pixel, T weight) {
        load_lanes(from + pixel, count, value);
        sums = sums + L(weight) * value;
      });
      store_lanes(sums, to, count);
    }
  };
};

// Calls f(c0, c1, k0, k1) for blocks of `per` channels and parts of the regions [begin, end). If
// the blocks are enough for many threads, a part is all regions.
template <class F>
void each_unit(const RoiAlignParams& p, int64_t per, int64_t begin, int64_t end,
               const Executor& executor, const F& f) {
  constexpr int64_t kUnits = 64, kRegions = 16;
  const int64_t blocks = divide_up(p.channels, at_least(1, per)), n = end - begin;
  const int64_t parts = at_least(1, at_most(divide_up(kUnits, at_least(1, blocks)), n / kRegions));
  const double regions = double(n) / double(parts);
  const double work = regions * double(per) * p.out_height * p.out_width * 16;
  parallel_for(executor, blocks * parts, grain_of(work), [&](int64_t first, int64_t last) {
    for (int64_t unit = first; unit < last; ++unit) {
      const int64_t c0 = unit / parts * per, part = unit % parts;
      f(c0, at_most(p.channels, c0 + per), begin + n * part / parts,
        begin + n * (part + 1) / parts);
    }
  });
}

}  // namespace

Status roi_align(const RoiAlignParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    Regions<T> regions(p);
    regions.sort();
    for (int64_t begin = 0; begin < p.n; begin += kChunk) {
      const int64_t end = at_most(p.n, begin + kChunk);
      regions.keep(begin, end, executor);
      const auto pool_all = [&](auto& pooling, int64_t c0, int64_t c1, int64_t k0, int64_t k1) {
        WeightScratch<T> scratch;
        for (int64_t k = k0; k < k1; ++k) pooling.pool(regions.at(k, scratch), c0, c1);
      };
      if (p.channels_last)
        each_unit(p, p.channels, begin, end, executor,
                  [&](int64_t c0, int64_t c1, int64_t k0, int64_t k1) {
                    const ChannelsLast<S> pooling{p};
                    pool_all(pooling, c0, c1, k0, k1);
                  });
      else
        each_unit(p, Lanes<T>::width, begin, end, executor,
                  [&](int64_t c0, int64_t c1, int64_t k0, int64_t k1) {
                    Planar<S> pooling(p);
                    pool_all(pooling, c0, c1, k0, k1);
                  });
    }
    return Status{};
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(roi_align, RoiAlignParams)

#if defined(DETCORE_ISA_IS_BASELINE)
namespace detcore {
// The size depends on the arithmetic type, not on the instruction set.
size_t roi_align_workspace_cpu(const RoiAlignParams& params) {
  RoiAlignParams p = params;
  p.workspace = nullptr;
  return p.dtype == DType::f64 ? Regions<double>(p).arena.used : Regions<float>(p).arena.used;
}
}  // namespace detcore
#endif
