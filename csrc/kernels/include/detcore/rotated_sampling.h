// The samples of a region that is turned, for roi_align_rotated. Along the region's sides they lie
// as ROI-align's do along the axes of the map (RoiAxis), but measured from the region's centre:
// u along its width, v along its height. The angle turns u from the x axis, counter-clockwise as
// the image is seen, as in rotated_box.h: x = u cos + v sin, y = v cos - u sin.
#pragma once

#include "detcore/roi_sampling.h"
#include "detcore/rotated_box.h"

// launch.cuh defines it for device code.
#if !defined(DETCORE_DONT_UNROLL)
#define DETCORE_DONT_UNROLL
#endif

namespace detcore {
inline namespace DETCORE_ISA {

// A part of a map that samples are wanted in, in pixels.
template <class T>
struct SampleArea {
  T left, top, right, bottom;
};

template <class T>
struct RotatedRoi {
  T x, y;              // centre, pixels of the map
  T cosine, sine;      // of the angle
  RoiAxis<T> rows;     // along v
  RoiAxis<T> columns;  // along u

  DETCORE_HD bool has_samples() const { return rows.samples > 0 && columns.samples > 0; }
  DETCORE_HD T weight() const { return T(1) / (T(rows.samples) * T(columns.samples)); }
  DETCORE_HD T x_of(T u, T v) const { return v * sine + u * cosine + x; }
  DETCORE_HD T y_of(T u, T v) const { return v * cosine - u * sine + y; }

  // The rounding error of a sample's place, and more.
  DETCORE_HD T slack() const {
    const T eps = sizeof(T) == 8 ? T(1e-15) : T(5e-7);
    return T(0.01) + (eps * size_of(x) + eps * size_of(y) + eps * size_of(rows.start) +
                      eps * size_of(columns.start));
  }
  DETCORE_HD static T size_of(T a) { return a < T(0) ? -a : a; }

  // Whether samples of a part of the region, around (u, v), can lie in the area.
  DETCORE_HD bool reaches(const SampleArea<T>& area, T u, T v, T half_w, T half_h) const {
    const T c = size_of(cosine), s = size_of(sine), w = size_of(half_w), h = size_of(half_h);
    const T across = w * c + h * s + slack(), down = w * s + h * c + slack();
    const T at_x = x_of(u, v), at_y = y_of(u, v);
    return at_x + across >= area.left && at_x - across <= area.right && at_y + down >= area.top &&
           at_y - down <= area.bottom;
  }
  DETCORE_HD bool reaches(const SampleArea<T>& area) const {
    return reaches(area, T(0), T(0), columns.start, rows.start);
  }
  DETCORE_HD bool bin_reaches(const SampleArea<T>& area, int64_t by, int64_t bx) const {
    const T half_w = T(0.5) * columns.bin, half_h = T(0.5) * rows.bin;
    return reaches(area, columns.start + T(bx) * columns.bin + half_w,
                   rows.start + T(by) * rows.bin + half_h, half_w, half_h);
  }

  // The rows of samples of bin row `by` that can reach the area.
  DETCORE_HD void rows_in(const SampleArea<T>& area, int64_t by, int64_t& first,
                          int64_t& last) const {
    const T left = (area.left - x) * sine, right = (area.right - x) * sine;
    const T top = (area.top - y) * cosine, bottom = (area.bottom - y) * cosine, more = slack();
    rows.between(by, lane_min(left, right) + lane_min(top, bottom) - more,
                 lane_max(left, right) + lane_max(top, bottom) + more, first, last);
  }
  // The samples of bin column `bx` in the row at v that can lie in the area.
  DETCORE_HD void columns_in(const SampleArea<T>& area, T v, int64_t bx, int64_t& first,
                             int64_t& last) const {
    const T more = slack(), across = v * sine + x, down = v * cosine + y;
    int64_t from, to;
    first = 0, last = columns.samples;
    if (cosine != T(0)) {
      const T a = (area.left - more - across) / cosine, b = (area.right + more - across) / cosine;
      columns.between(bx, lane_min(a, b), lane_max(a, b), first, last);
    }
    if (sine != T(0)) {
      const T a = (down - area.top + more) / sine, b = (down - area.bottom - more) / sine;
      columns.between(bx, lane_min(a, b), lane_max(a, b), from, to);
      first = from > first ? from : first, last = to < last ? to : last;
    }
  }
};

// Up to this number of samples per bin and axis all are looked at.
constexpr int64_t kFewRotatedSamples = 4;

// Calls f(x, y) for the samples of a bin that can lie in the area, and for some that do not.
template <class T, class F>
DETCORE_HD void each_sample(const RotatedRoi<T>& roi, const SampleArea<T>& area, int64_t by,
                            int64_t bx, const F& f) {
  if (!roi.has_samples()) return;
  const bool all_rows = roi.rows.samples <= kFewRotatedSamples;
  const bool all_columns = roi.columns.samples <= kFewRotatedSamples;
  int64_t row = 0, row_end = roi.rows.samples, column = 0, column_end = roi.columns.samples;
  if (!all_rows) roi.rows_in(area, by, row, row_end);
  if (!(all_rows && all_columns) && !roi.bin_reaches(area, by, bx)) row_end = row;
  DETCORE_DONT_UNROLL
  for (; row < row_end; ++row) {
    const T v = roi.rows.position(by, row);
    if (!all_columns) roi.columns_in(area, v, bx, column, column_end);
    DETCORE_DONT_UNROLL
    for (int64_t s = all_columns ? 0 : column; s < column_end; ++s) {
      const T u = roi.columns.position(bx, s);
      f(roi.x_of(u, v), roi.y_of(u, v));
    }
  }
}

// Sizes of the result and of the map.
struct RoiSizes {
  int64_t out_height, out_width, height, width;
};

// roi: image, centre x, y, width, height in pixels of the image, degrees. A region with a number
// that is not finite has no samples.
template <class T>
DETCORE_HD RotatedRoi<T> rotated_roi(const T* roi, T scale, bool aligned, bool clockwise,
                                     int64_t ratio, const RoiSizes& sizes) {
  const T offset = aligned ? T(0.5) : T(0);
  double sine, cosine;
  const bool finite = roi[5] - roi[5] == T(0);  // NaN for NaN and infinity
  const double degrees = finite ? double(roi[5]) : 0.0;
  sin_cos_of_degrees(clockwise ? -degrees : degrees, sine, cosine);
  RotatedRoi<T> r;
  r.x = roi[1] * scale - offset, r.y = roi[2] * scale - offset;
  r.cosine = T(cosine), r.sine = T(sine);
  T width = roi[3] * scale, height = roi[4] * scale;
  const T nothing = (r.x - r.x) + (r.y - r.y) + (width - width) + (height - height);
  if (!aligned && width < T(1)) width = T(1);
  if (!aligned && height < T(1)) height = T(1);
  const T row = height / T(sizes.out_height), column = width / T(sizes.out_width);
  r.rows = {T(-0.5) * height, row, samples_of(row, ratio), sizes.height};
  r.columns = {T(-0.5) * width, column, samples_of(column, ratio), sizes.width};
  if (!finite || !(nothing == T(0))) r.rows.samples = r.columns.samples = 0;
  return r;
}

// A sample's pixels: the first of four, whose neighbours below and to the right have `far` weights.
template <class T, class I = int64_t>
struct RotatedTap {
  Tap<T, I> rows, columns;
};

// Returns false if the sample is more than one pixel outside the map and counts as 0.
template <class T, class I>
DETCORE_HD bool make_tap(T x, T y, I width, I height, RotatedTap<T, I>& tap) {
  tap = {};
  return make_tap(x, width, tap.columns) && make_tap(y, height, tap.rows);
}

}  // namespace DETCORE_ISA
}  // namespace detcore
