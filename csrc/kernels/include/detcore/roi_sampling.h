// Where ROI-align samples along one axis, and what a sample takes from its two pixels. The rule is
// torchvision's; both axes follow it alone, so weights of rows and columns multiply.
#pragma once

#include "detcore/box.h"

namespace detcore {
inline namespace DETCORE_ISA {

DETCORE_HD float lane_ceil(float x) { return ::ceilf(x); }
DETCORE_HD double lane_ceil(double x) { return ::ceil(x); }

// The samples of one region along one axis of a map.
template <class T>
struct RoiAxis {
  T start;          // pixels of the map
  T bin;            // size of an output bin
  int64_t samples;  // a bin; none: the region pools to zeros
  int64_t size;     // of the map

  template <class I>
  DETCORE_HD T position(I b, I s) const {
    return start + T(b) * bin + (T(s) + T(0.5)) * bin / T(samples);
  }
  DETCORE_HD T weight() const { return T(1) / T(samples); }

  // The samples of bin b that can lie inside: a huge region has far more that can't.
  DETCORE_HD void inside(int64_t b, int64_t& first, int64_t& last) const {
    T step = bin / T(samples), from = start + T(b) * bin;
    T low = (T(-1) - from) / step - T(2), high = (T(size) - from) / step + T(2);
    first = low > T(0) ? (low < T(samples) ? int64_t(low) : samples) : 0;
    last = high < T(samples) ? (high > T(0) ? int64_t(high) : 0) : samples;
    // a region without size samples one point again and again
    if (!(step > T(0))) first = 0, last = samples;
  }
};

template <class T>
DETCORE_HD RoiAxis<T> roi_axis(T low, T high, T scale, bool aligned, int64_t ratio, int64_t bins,
                               int64_t size) {
  T offset = aligned ? T(0.5) : T(0);
  T start = low * scale - offset, extent = high * scale - offset - start;
  if (!aligned && extent < T(1)) extent = T(1);
  T bin = extent / T(bins);
  RoiAxis<T> axis{start, bin, ratio, size};
  if (ratio <= 0) {
    T needed = lane_ceil(bin);
    // beyond 2^30 samples a bin they stand many to a pixel, whatever the map
    axis.samples = needed > T(0) ? (needed < T(1 << 30) ? int64_t(needed) : 1 << 30) : 0;
  }
  // not finite: no samples. inf - inf and inf * 0 are NaN, so one subtraction tells
  if (!(low - low == T(0)) || !(high - high == T(0)) || !(extent - extent == T(0)) ||
      !(start - start == T(0)))
    axis.samples = 0;
  return axis;
}

// A sample's two pixels: `low` and low + 1, weighing `near` and `far` (far = 0 at the last pixel).
// I: an integer that holds the size of the axis.
template <class T, class I = int64_t>
struct Tap {
  I low;
  T near, far;
};

// False for a sample that counts as zero: more than a pixel outside.
template <class T, class I>
DETCORE_HD bool make_tap(T at, I size, Tap<T, I>& tap) {
  if (!(at >= T(-1) && at <= T(size))) return false;
  if (at < T(0)) at = T(0);
  tap.low = I(at);
  if (tap.low >= size - 1) {
    tap = {size - 1, T(1), T(0)};
  } else {
    tap.far = at - T(tap.low);
    tap.near = T(1) - tap.far;
  }
  return true;
}

}  // namespace DETCORE_ISA
}  // namespace detcore
