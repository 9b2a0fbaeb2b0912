// ROI-align by separable weights: along each axis a bin takes a short list of (pixel, weight), made
// once a region and shared by all channels. Planar maps reduce rows first, SIMD along the width;
// channels-last maps take SIMD along the channels.
#include "detcore/roi_align.h"

#include "kernel.h"

namespace detcore {
inline namespace DETCORE_ISA {
namespace {

constexpr int64_t kTaps = 1536;    // (pixel, weight) entries a region's axis may need
constexpr int64_t kBins = 256;     // output bins an axis
constexpr int64_t kChannels = 64;  // channels accumulated at once, channels-last

// The lists of one axis: bin b takes pixel[i] * weight[i] for i in [begin[b], begin[b + 1]).
template <class T>
struct AxisTaps {
  int64_t low = 0, high = -1;  // the pixels used, inclusive
  int32_t begin[kBins + 1];
  int32_t pixel[kTaps];
  T weight[kTaps];

  // False if the lists do not fit.
  bool fill(const RoiAxis<T>& axis, int64_t bins) {
    if (bins > kBins || axis.size > INT32_MAX) return false;
    int64_t count = 0;
    low = axis.size, high = -1;
    for (int64_t b = 0; b < bins; ++b) {
      const int64_t first_entry = count;
      begin[b] = int32_t(count);
      if (axis.samples == 0) continue;
      int64_t first, last;
      axis.inside(b, first, last);
      for (int64_t s = first; s < last; ++s) {
        Tap<T> tap;
        if (!make_tap(axis.position(b, s), axis.size, tap)) continue;
        if (count + 2 > kTaps) return false;
        count = add(first_entry, count, tap.low, tap.near * axis.weight());
        if (tap.far > T(0)) count = add(first_entry, count, tap.low + 1, tap.far * axis.weight());
      }
    }
    begin[bins] = int32_t(count);
    return high - low < kTaps;  // a line of the map's pixels must fit as well
  }

 private:
  // Samples ascend, so a pixel met before is among the bin's last two.
  int64_t add(int64_t first, int64_t count, int64_t at, T w) {
    low = at_most(at, low), high = at_least(at, high);
    for (int64_t i = at_least(first, count - 2); i < count; ++i)
      if (pixel[i] == at) {
        weight[i] += w;
        return count;
      }
    pixel[count] = int32_t(at);
    weight[count] = w;
    return count + 1;
  }
};

template <class T>
struct Region {
  int64_t image;
  RoiAxis<T> x, y;
};

template <class T>
Region<T> region(const RoiAlignParams& p, int64_t i) {
  const T* r = static_cast<const T*>(p.rois) + 5 * i;
  const T scale = T(p.spatial_scale);
  return {int64_t(r[0]),
          roi_axis(r[1], r[3], scale, p.aligned, p.sampling_ratio, p.out_width, p.width),
          roi_axis(r[2], r[4], scale, p.aligned, p.sampling_ratio, p.out_height, p.height)};
}

// Strides of a dense map [images, channels, height, width] in either layout.
struct Layout {
  int64_t image, channel, row, column;
  Layout(int64_t channels, int64_t height, int64_t width, bool channels_last)
      : image(channels * height * width),
        channel(channels_last ? 1 : height * width),
        row(channels_last ? width * channels : width),
        column(channels_last ? channels : 1) {}
};

template <class S>
struct Pooling {
  using T = arithmetic_t<S>;
  const RoiAlignParams& p;
  Layout in{p.channels, p.height, p.width, p.channels_last};
  Layout out{p.channels, p.out_height, p.out_width, p.channels_last};
  AxisTaps<T> columns, rows;

  explicit Pooling(const RoiAlignParams& params) : p(params) {}

  // One region, channels [c0, c1).
  void forward(int64_t i, int64_t c0, int64_t c1) {
    const Region<T> r = region<T>(p, i);
    const S* map = static_cast<const S*>(p.input) + r.image * in.image;
    S* pooled = static_cast<S*>(p.out) + i * out.image;
    if (!columns.fill(r.x, p.out_width) || !rows.fill(r.y, p.out_height))
      forward_by_samples(r, map, pooled, c0, c1);
    else if (p.channels_last)
      forward_channels_last(map, pooled, c0, c1);
    else
      forward_planar(map, pooled, c0, c1);
  }

  void forward_planar(const S* map, S* pooled, int64_t c0, int64_t c1) {
    T line[kTaps];
    const int64_t span = columns.high - columns.low + 1;
    for (int64_t c = c0; c < c1; ++c) {
      const S* plane = map + c * in.channel + columns.low;
      S* to = pooled + c * out.channel;
      for (int64_t by = 0; by < p.out_height; ++by) {
        for (int64_t x = 0; x < span; ++x) line[x] = T(0);
        for (int32_t e = rows.begin[by]; e < rows.begin[by + 1]; ++e) {
          const S* row = plane + rows.pixel[e] * in.row;
          const T w = rows.weight[e];
          for (int64_t x = 0; x < span; ++x) line[x] += w * widen(row[x]);
        }
        for (int64_t bx = 0; bx < p.out_width; ++bx) {
          T sum = T(0);
          for (int32_t e = columns.begin[bx]; e < columns.begin[bx + 1]; ++e)
            sum += columns.weight[e] * line[columns.pixel[e] - columns.low];
          narrow(sum, to[by * out.row + bx]);
        }
      }
    }
  }

  void forward_channels_last(const S* map, S* pooled, int64_t c0, int64_t c1) {
    for (int64_t by = 0; by < p.out_height; ++by)
      for (int64_t bx = 0; bx < p.out_width; ++bx)
        for (int64_t c = c0; c < c1; c += kChannels) {
          T sum[kChannels] = {};
          const int64_t count = at_most(kChannels, c1 - c);
          for (int32_t ey = rows.begin[by]; ey < rows.begin[by + 1]; ++ey)
            for (int32_t ex = columns.begin[bx]; ex < columns.begin[bx + 1]; ++ex) {
              const S* from = map + rows.pixel[ey] * in.row + columns.pixel[ex] * in.column + c;
              const T w = rows.weight[ey] * columns.weight[ex];
              if (count == kChannels)  // a fixed trip count keeps the sums in registers
                for (int64_t k = 0; k < kChannels; ++k) sum[k] += w * widen(from[k]);
              else
                for (int64_t k = 0; k < count; ++k) sum[k] += w * widen(from[k]);
            }
          S* to = pooled + by * out.row + bx * out.column + c;
          for (int64_t k = 0; k < count; ++k) narrow(sum[k], to[k]);
        }
  }

  // f(b_y, b_x, pixel offset, weight) for every tap of every sample: what lists don't hold.
  template <class F>
  void each_tap(const Region<T>& r, const F& f) const {
    if (r.x.samples == 0 || r.y.samples == 0) return;
    for (int64_t by = 0; by < p.out_height; ++by)
      for (int64_t bx = 0; bx < p.out_width; ++bx) {
        int64_t y0, y1, x0, x1;
        r.y.inside(by, y0, y1), r.x.inside(bx, x0, x1);
        for (int64_t sy = y0; sy < y1; ++sy) {
          Tap<T> ty, tx;
          if (!make_tap(r.y.position(by, sy), p.height, ty)) continue;
          for (int64_t sx = x0; sx < x1; ++sx) {
            if (!make_tap(r.x.position(bx, sx), p.width, tx)) continue;
            const T share = r.y.weight() * r.x.weight();
            for (int dy = 0; dy < 1 + (ty.far > T(0)); ++dy)
              for (int dx = 0; dx < 1 + (tx.far > T(0)); ++dx)
                f(by, bx, (ty.low + dy) * in.row + (tx.low + dx) * in.column,
                  share * (dy ? ty.far : ty.near) * (dx ? tx.far : tx.near));
          }
        }
      }
  }

  void forward_by_samples(const Region<T>& r, const S* map, S* pooled, int64_t c0, int64_t c1) {
    for (int64_t c = c0; c < c1; ++c) {
      S* to = pooled + c * out.channel;
      for (int64_t by = 0; by < p.out_height; ++by)
        for (int64_t bx = 0; bx < p.out_width; ++bx)
          narrow(T(0), to[by * out.row + bx * out.column]);
      // taps of a bin come together, so its sum is kept until the next bin's
      int64_t bin = -1;
      T sum = T(0);
      each_tap(r, [&](int64_t by, int64_t bx, int64_t pixel, T w) {
        const int64_t at = by * out.row + bx * out.column;
        if (at != bin) sum = T(0), bin = at;
        sum += w * widen(map[c * in.channel + pixel]);
        narrow(sum, to[at]);
      });
    }
  }

  // Adds region i's share to grad (the region's image), channels [c0, c1).
  void backward(int64_t i, const S* grad_out, T* grad, int64_t c0, int64_t c1) {
    const Region<T> r = region<T>(p, i);
    const S* pooled = grad_out + i * out.image;
    if (!columns.fill(r.x, p.out_width) || !rows.fill(r.y, p.out_height)) {
      for (int64_t c = c0; c < c1; ++c)
        each_tap(r, [&](int64_t by, int64_t bx, int64_t pixel, T w) {
          grad[c * in.channel + pixel] +=
              w * widen(pooled[c * out.channel + by * out.row + bx * out.column]);
        });
    } else if (p.channels_last) {
      backward_channels_last(pooled, grad, c0, c1);
    } else {
      backward_planar(pooled, grad, c0, c1);
    }
  }

  void backward_planar(const S* pooled, T* grad, int64_t c0, int64_t c1) {
    T line[kTaps];
    const int64_t span = columns.high - columns.low + 1;
    for (int64_t c = c0; c < c1; ++c) {
      T* plane = grad + c * in.channel + columns.low;
      for (int64_t by = 0; by < p.out_height; ++by) {
        for (int64_t x = 0; x < span; ++x) line[x] = T(0);
        for (int64_t bx = 0; bx < p.out_width; ++bx) {
          const T g = widen(pooled[c * out.channel + by * out.row + bx]);
          for (int32_t e = columns.begin[bx]; e < columns.begin[bx + 1]; ++e)
            line[columns.pixel[e] - columns.low] += columns.weight[e] * g;
        }
        for (int32_t e = rows.begin[by]; e < rows.begin[by + 1]; ++e) {
          T* row = plane + rows.pixel[e] * in.row;
          const T w = rows.weight[e];
          for (int64_t x = 0; x < span; ++x) row[x] += w * line[x];
        }
      }
    }
  }

  void backward_channels_last(const S* pooled, T* grad, int64_t c0, int64_t c1) {
    for (int64_t by = 0; by < p.out_height; ++by)
      for (int64_t bx = 0; bx < p.out_width; ++bx) {
        const S* g = pooled + by * out.row + bx * out.column;
        for (int32_t ey = rows.begin[by]; ey < rows.begin[by + 1]; ++ey)
          for (int32_t ex = columns.begin[bx]; ex < columns.begin[bx + 1]; ++ex) {
            T* to = grad + rows.pixel[ey] * in.row + columns.pixel[ex] * in.column;
            const T w = rows.weight[ey] * columns.weight[ex];
            for (int64_t c = c0; c < c1; ++c) to[c] += w * widen(g[c]);
          }
      }
  }
};

// f(image, first channel, last channel) for disjoint blocks of whole planes: `per` channels each.
template <class F>
void each_block(const RoiAlignParams& p, int64_t per, const Executor& executor, const F& f) {
  const int64_t blocks = divide_up(p.channels, per);
  parallel_for(executor, p.images * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t c0 = unit % blocks * per;
      f(unit / blocks, c0, at_most(p.channels, c0 + per));
    }
  });
}

// The image of a region, checked by the caller to be one of the map's.
template <class T>
DETCORE_HD int64_t image_of(const RoiAlignParams& p, int64_t i) {
  return int64_t(static_cast<const T*>(p.rois)[5 * i]);
}

}  // namespace

Status roi_align(const RoiAlignParams& p, const Executor& executor) {
  return with_storage(p.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    if (p.channels_last) {
      // a pixel's channels lie together: region by region
      parallel_for(executor, p.n, 1, [&](int64_t begin, int64_t end) {
        Pooling<S> pooling(p);
        for (int64_t i = begin; i < end; ++i) pooling.forward(i, 0, p.channels);
      });
    } else {
      // a few planes stay in L2 while all regions pass over them
      each_block(p, 8, executor, [&](int64_t image, int64_t c0, int64_t c1) {
        Pooling<S> pooling(p);
        for (int64_t i = 0; i < p.n; ++i)
          if (image_of<T>(p, i) == image) pooling.forward(i, c0, c1);
      });
    }
    return Status{};
  });
}

Status roi_align_backward(const RoiAlignBackwardParams& p, const Executor& executor) {
  const RoiAlignParams& f = p.forward;
  return with_storage(f.dtype, [&](auto storage) {
    using S = decltype(storage);
    using T = arithmetic_t<S>;
    // every element belongs to one block, which adds the regions in their order
    each_block(f, f.channels_last ? 128 : 8, executor, [&](int64_t image, int64_t c0, int64_t c1) {
      Pooling<S> pooling(f);
      T* grad = static_cast<T*>(p.grad_input) + image * pooling.in.image;
      const int64_t runs = f.channels_last ? f.height * f.width : c1 - c0;
      const int64_t run = f.channels_last ? c1 - c0 : f.height * f.width;
      for (int64_t r = 0; r < runs; ++r)
        memset(grad + (f.channels_last ? r * f.channels + c0 : (c0 + r) * run), 0, run * sizeof(T));
      for (int64_t i = 0; i < f.n; ++i)
        if (image_of<T>(f, i) == image)
          pooling.backward(i, static_cast<const S*>(p.grad_out), grad, c0, c1);
    });
    return Status{};
  });
}

}  // namespace DETCORE_ISA
}  // namespace detcore

DETCORE_CPU_ENTRY(roi_align, RoiAlignParams)
DETCORE_CPU_ENTRY(roi_align_backward, RoiAlignBackwardParams)
