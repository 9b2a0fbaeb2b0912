// Backward of roi_align and multiscale_roi_align. Every element of the gradient has one writer,
// which adds the regions in order. For contiguous (planar) maps a block of planes stays in cache
// while all regions of its image are added; columns are spread with one plane per lane, rows with
// SIMD along the width. For channels-last maps a band of rows stays in cache, and SIMD goes along
// the channels.
#include "roi_align_weights.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

// The part of one map that a unit of work owns: channels [c0, c1) of rows [y0, y1).
struct Block {
  int64_t c0, c1, y0, y1;
};

// Spreads a region's gradient over its block of a planar map.
template <class S>
struct Planar {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width;

  const RoiAlignParams& p;
  const S* grad_out;
  alignas(64) T turned[(kMostEntries + W) * W];  // [x, plane]
  alignas(64) T lines[W * (kMostEntries + W)];   // [plane, x]

  DETCORE_HD Planar(const RoiAlignParams& params, const S* grad) : p(params), grad_out(grad) {}

  // map: the gradient of the image's map, [channels, height, width]
  void spread(const Region<T>& r, const Block& block, T* map) {
    const RoiLevel& level = p.levels[r.level];
    const int64_t plane = level.height * level.width, outputs = int64_t(p.out_height) * p.out_width;
    const S* grad = grad_out + r.roi * p.channels * outputs;
    if (!r.listed) return spread_by_samples(r, block, grad + block.c0 * outputs, map);
    if (r.rows.low >= block.y1 || r.rows.low + r.rows.span <= block.y0) return;
    const int64_t width = divide_up(r.columns.span, W) * W;
    for (int64_t c = block.c0; c < block.c1; c += W) {
      const int64_t planes = at_most(W, block.c1 - c);
      Lines to{map + c * plane + r.columns.low, plane, level.width, planes, r.columns.span, width};
      // the number of contiguous elements, from the first line of the first plane, that this block
      // may write
      to.end = (block.y0 == 0 && block.y1 == level.height ? (block.c1 - c) * plane
                                                          : block.y1 * level.width) -
               r.columns.low;
      // one output row at a time: all planes add to the same map rows, so branches are predictable
      for (int64_t by = 0; by < p.out_height; ++by) {
        if (!reaches(r.rows, by, block)) continue;
        spread_columns(grad + c * outputs + by * p.out_width, outputs, planes, r.columns, width);
        turn(width);
        spread_rows(r.rows, by, block, to);
      }
    }
  }

  static bool reaches(const AxisWeights<T>& rows, int64_t by, const Block& block) {
    for (int32_t e = rows.begin[by]; e < rows.begin[by + 1]; ++e) {
      const int64_t y = rows.low + rows.pixel[e];
      if (y >= block.y0 && y < block.y1) return true;
    }
    return false;
  }

  // turned[x, l] = sum of weight * gradient over the bins of plane l. Planes are `outputs` apart.
  void spread_columns(const S* grad, int64_t outputs, int64_t planes, const AxisWeights<T>& columns,
                      int64_t width) {
    const S* end = grad_out + p.n * p.channels * int64_t(p.out_height) * p.out_width;
    for (int64_t x = 0; x < width; ++x) L(T(0)).store(turned + x * W);
    for (int64_t b = 0; b < p.out_width; b += W) {
      const int64_t some = at_most(W, p.out_width - b);
      L square[W];
      for (int64_t l = 0; l < W; ++l) {
        const S* from = grad + l * outputs + b;
        if (l >= planes)
          square[l] = L(T(0));
        else if (end - from >= W)
          square[l] = load_lanes(from);
        else
          load_lanes(from, some, square[l]);
      }
      transpose(square);
      for (int64_t k = 0; k < some; ++k)
        for (int32_t e = columns.begin[b + k]; e < columns.begin[b + k + 1]; ++e) {
          T* to = turned + columns.pixel[e] * W;
          (L::load(to) + L(columns.weight[e]) * square[k]).store(to);
        }
    }
  }

  // Transposes turned [width, W] to lines [W, width].
  void turn(int64_t width) {
    for (int64_t x = 0; x < width; x += W) {
      L square[W];
      for (int64_t l = 0; l < W; ++l) square[l] = L::load(turned + (x + l) * W);
      transpose(square);
      for (int64_t l = 0; l < W; ++l) square[l].store(lines + l * width + x);
    }
  }

  // The destination of lines: [plane, row, x], from the region's first column on.
  struct Lines {
    T* map;
    int64_t plane, stride, planes, span, width;
    int64_t end = 0;
  };

  // Adds output row `by` to the map rows of the block, four at a time.
  void spread_rows(const AxisWeights<T>& rows, int64_t by, const Block& block,
                   const Lines& to) const {
    int64_t row[4];
    T weight[4];
    int count = 0;
    for (int32_t e = rows.begin[by]; e < rows.begin[by + 1]; ++e) {
      const int64_t y = rows.low + rows.pixel[e];
      if (y < block.y0 || y >= block.y1) continue;
      row[count] = y * to.stride, weight[count] = rows.weight[e];
      if (++count == 4) add_lines<4>(to, row, weight), count = 0;
    }
    if (count == 3) add_lines<3>(to, row, weight);
    if (count == 2) add_lines<2>(to, row, weight);
    if (count == 1) add_lines<1>(to, row, weight);
  }

  template <int kRows>
  void add_lines(const Lines& to, const int64_t* row, const T* weight) const {
    L w[kRows];
    int64_t last = 0;
    for (int k = 0; k < kRows; ++k) w[k] = L(weight[k]), last = at_least(last, row[k]);
    for (int64_t l = 0; l < to.planes; ++l) {
      const T* line = lines + l * to.width;
      T* map = to.map + l * to.plane;
      // the elements of a whole vector past the region are zero, so they don't change the
      // neighbours
      const int64_t whole = l * to.plane + last + to.width <= to.end ? to.width : to.span / W * W;
      for (int64_t x = 0; x < whole; x += W)
        for (int k = 0; k < kRows; ++k) {
          T* at = map + row[k] + x;
          (L::load(at) + w[k] * L::load(line + x)).store(at);
        }
      for (int64_t x = whole; x < to.span; ++x)
        for (int k = 0; k < kRows; ++k) map[row[k] + x] += weight[k] * line[x];
    }
  }

  void spread_by_samples(const Region<T>& r, const Block& block, const S* grad, T* map) {
    const RoiLevel& level = p.levels[r.level];
    const Layout in(p.channels, level.height, level.width, false);
    for (int64_t c = block.c0; c < block.c1; ++c, grad += int64_t(p.out_height) * p.out_width)
      each_tap(p, r, in, [&](int64_t by, int64_t bx, int64_t pixel, T w) {
        if (pixel >= block.y0 * in.row && pixel < block.y1 * in.row)
          map[c * in.channel + pixel] += w * widen(grad[by * p.out_width + bx]);
      });
  }
};

// Spreads a region's gradient over its block of a channels-last map.
template <class S>
struct ChannelsLast {
  using T = arithmetic_t<S>;
  using L = Lanes<T>;
  static constexpr int64_t W = L::width;
  static constexpr int kBlocks = 4;

  const RoiAlignParams& p;
  const S* grad_out;

  // map: the gradient of the image's map, [height, width, channels]
  void spread(const Region<T>& r, const Block& block, T* map) const {
    const RoiLevel& level = p.levels[r.level];
    const S* grad = grad_out + r.roi * p.out_height * p.out_width * p.channels;
    if (!r.listed) return spread_by_samples(r, block, grad, map);
    if (r.rows.low >= block.y1 || r.rows.low + r.rows.span <= block.y0) return;
    for (int64_t by = 0; by < p.out_height; ++by)
      for (int32_t e = r.rows.begin[by]; e < r.rows.begin[by + 1]; ++e) {
        const int64_t y = r.rows.low + r.rows.pixel[e];
        if (y < block.y0 || y >= block.y1) continue;
        T* row = map + (y * level.width + r.columns.low) * p.channels;
        for (int64_t bx = 0; bx < p.out_width; ++bx)
          spread_bin(grad + (by * p.out_width + bx) * p.channels, r.columns, bx, r.rows.weight[e],
                     block, row);
      }
  }

  DETCORE_HD void spread_bin(const S* grad, const AxisWeights<T>& columns, int64_t bx, T row_weight,
                             const Block& block, T* row) const {
    const int32_t begin = columns.begin[bx], end = columns.begin[bx + 1];
    int64_t c = block.c0;
    for (; c + kBlocks * W <= block.c1; c += kBlocks * W) {
      L g[kBlocks];
      for (int k = 0; k < kBlocks; ++k) g[k] = load_lanes(grad + c + k * W);
      for (int32_t e = begin; e < end; ++e) {
        T* to = row + columns.pixel[e] * p.channels + c;
        const L w(row_weight * columns.weight[e]);
        for (int k = 0; k < kBlocks; ++k) (L::load(to + k * W) + w * g[k]).store(to + k * W);
      }
    }
    for (int32_t e = begin; e < end; ++e) {
      T* to = row + columns.pixel[e] * p.channels;
      const T w = row_weight * columns.weight[e];
      for (int64_t k = c; k < block.c1; ++k) to[k] += w * widen(grad[k]);
    }
  }

  void spread_by_samples(const Region<T>& r, const Block& block, const S* grad, T* map) const {
    const RoiLevel& level = p.levels[r.level];
    const Layout in(p.channels, level.height, level.width, true);
    each_tap(p, r, in, [&](int64_t by, int64_t bx, int64_t pixel, T w) {
      if (pixel < block.y0 * in.row || pixel >= block.y1 * in.row) return;
      const S* from = grad + (by * p.out_width + bx) * p.channels;
      for (int64_t c = block.c0; c < block.c1; ++c) map[pixel + c] += w * widen(from[c]);
    });
  }
};

// How a level is divided: into blocks of channels and bands of rows.
struct Cut {
  int64_t channels, rows, blocks, bands;

  Cut(const RoiAlignParams& p, const RoiLevel& level, int64_t element) {
    constexpr int64_t cache = 512 << 10;  // bytes: most of a core's L2 cache
    constexpr int64_t units = 16;         // enough for many threads
    if (p.channels_last) {
      channels = at_most(512, p.channels);
      rows = at_least(1, cache / at_least(1, level.width * channels * element));
    } else {
      channels = kLaneBytes / element;  // one per lane
      const int64_t wanted =
          divide_up(units, at_least(1, divide_up(p.channels, channels) * p.images));
      rows = at_least(8, divide_up(level.height, wanted));
    }
    blocks = divide_up(p.channels, at_least(1, channels));
    bands = divide_up(level.height, rows);
  }
};

template <class T>
void clear(const RoiAlignParams& p, const RoiLevel& level, const Block& b, T* map) {
  if (p.channels_last) {
    for (int64_t i = b.y0 * level.width; i < b.y1 * level.width; ++i)
      memset(map + i * p.channels + b.c0, 0, (b.c1 - b.c0) * sizeof(T));
  } else {
    for (int64_t c = b.c0; c < b.c1; ++c)
      memset(map + (c * level.height + b.y0) * level.width, 0,
             (b.y1 - b.y0) * level.width * sizeof(T));
  }
}

// Adds the kept regions to the gradient of one level. The call for the first chunk clears it first.
template <class S, class T>
void spread_level(const RoiAlignBackwardParams& p, const Regions<T>& regions, int l,
                  const Executor& executor) {
  const RoiAlignParams& f = p.forward;
  const RoiLevel& level = f.levels[l];
  const Cut cut(f, level, sizeof(T));
  const S* grad_out = static_cast<const S*>(p.grad_out);
  const double share = double(cut.channels) / double(cut.bands * at_least(1, f.images));
  const double work =
      double(regions.chunk_end - regions.chunk_begin) * f.out_height * f.out_width * 16 * share +
      double(cut.channels * cut.rows * level.width);
  // the image index varies fastest, so that an image with many regions is shared by several threads
  const int64_t units = f.images * cut.blocks * cut.bands;
  parallel_for(executor, units, grain_of(work), [&](int64_t begin, int64_t end) {
    WeightScratch<T> scratch;
    const auto pass = [&](auto& pooling, int64_t unit) {
      const int64_t image = unit % f.images, within = unit / f.images;
      const int64_t c0 = within / cut.bands * cut.channels, y0 = within % cut.bands * cut.rows;
      const Block block{c0, at_most(f.channels, c0 + cut.channels), y0,
                        at_most(level.height, y0 + cut.rows)};
      T* map = static_cast<T*>(p.grad_inputs[l]) + image * f.channels * level.height * level.width;
      if (regions.chunk_begin == 0) clear(f, level, block, map);
      const int64_t first = regions.begin_of(l * f.images + image);
      const int64_t last = at_most(regions.chunk_end, regions.begin_of(l * f.images + image + 1));
      for (int64_t k = at_least(regions.chunk_begin, first); k < last; ++k)
        pooling.spread(regions.at(k, scratch), block, map);
    };
    if (f.channels_last) {
      ChannelsLast<S> pooling{f, grad_out};
      for (int64_t unit = begin; unit < end; ++unit) pass(pooling, unit);
    } else {
      Planar<S> pooling(f, grad_out);
      for (int64_t unit = begin; unit < end; ++unit) pass(pooling, unit);
    }
  });
}

}  // namespace

Status roi_align_backward(const RoiAlignBackwardParams& p, const Executor& executor) {
  return with_storage(p.forward.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    Regions<T> regions(p.forward);
    regions.sort();
    for (int64_t begin = 0; begin == 0 || begin < p.forward.n; begin += kChunk) {
      regions.keep(begin, at_most(p.forward.n, begin + kChunk), executor);
      for (int l = 0; l < p.forward.level_count; ++l) spread_level<S>(p, regions, l, executor);
    }
    return Status{};
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(roi_align_backward, RoiAlignBackwardParams)
