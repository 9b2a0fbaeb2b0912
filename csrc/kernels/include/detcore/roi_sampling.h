// The positions of ROI-align's samples along one axis, and the weights of a sample's two pixels.
// The rule is torchvision's. It is separable: the weight of a pixel is the product of its row's and
// its column's weight.
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
  int64_t samples;  // per bin; 0: the region pools to zeros
  int64_t size;     // of the map, in pixels

  template <class I>
  DETCORE_HD T position(I b, I s) const {
    return start + T(b) * bin + (T(s) + T(0.5)) * bin / T(samples);
  }
  DETCORE_HD T weight() const { return T(1) / T(samples); }

  // The samples of bin b that can be inside the map. For a huge region this skips most of them.
  DETCORE_HD void inside(int64_t b, int64_t& first, int64_t& last) const {
    between(b, T(-1), T(size), first, last);
  }
  // The samples of bin b that can be at positions from `least` to `most`, and two more each way.
  DETCORE_HD void between(int64_t b, T least, T most, int64_t& first, int64_t& last) const {
    T step = bin / T(samples), from = start + T(b) * bin;
    T low = (least - from) / step - T(2), high = (most - from) / step + T(2);
    first = low > T(0) ? (low < T(samples) ? int64_t(low) : samples) : 0;
    last = high < T(samples) ? (high > T(0) ? int64_t(high) : 0) : samples;
    // all samples of a region without size are at one point
    if (!(step > T(0))) first = 0, last = samples;
  }
};

// The samples per bin of this size, in pixels of the map. ratio <= 0: ceil(size of the bin), with a
// limit of 2^30 samples per bin, which is many samples per pixel for any map.
template <class T>
DETCORE_HD int64_t samples_of(T bin, int64_t ratio) {
  if (ratio > 0) return ratio;
  const T needed = lane_ceil(bin);
  return needed > T(0) ? (needed < T(1 << 30) ? int64_t(needed) : 1 << 30) : 0;
}

template <class T>
DETCORE_HD RoiAxis<T> roi_axis(T low, T high, T scale, bool aligned, int64_t ratio, int64_t bins,
                               int64_t size) {
  T offset = aligned ? T(0.5) : T(0);
  T start = low * scale - offset, extent = high * scale - offset - start;
  if (!aligned && extent < T(1)) extent = T(1);
  T bin = extent / T(bins);
  RoiAxis<T> axis{start, bin, samples_of(bin, ratio), size};
  // no samples if anything is not finite: x - x is NaN for NaN and infinity
  if (!(low - low == T(0)) || !(high - high == T(0)) || !(extent - extent == T(0)) ||
      !(start - start == T(0)))
    axis.samples = 0;
  return axis;
}

// The two pixels of a sample, `low` and low + 1, with the weights `near` and `far` (far = 0 at the
// last pixel). I is an integer type that can hold the size of the axis.
template <class T, class I = int64_t>
struct Tap {
  I low;
  T near, far;
};

// Returns false if the sample is more than one pixel outside the map and counts as 0.
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
