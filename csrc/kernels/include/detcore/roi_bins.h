// The bins of one region along one axis of a map, for roi_pool. The rule is torchvision's: corners
// are rounded to whole pixels, the end included, and a bin begins at the floor and ends at the
// ceiling of its exact edges, so that neighbours may share a pixel.
#pragma once

#include "detcore/box.h"

namespace detcore {
inline namespace DETCORE_ISA {

DETCORE_HD float whole_floor(float x) { return ::floorf(x); }
DETCORE_HD double whole_floor(double x) { return ::floor(x); }
DETCORE_HD float whole_ceil(float x) { return ::ceilf(x); }
DETCORE_HD double whole_ceil(double x) { return ::ceil(x); }
DETCORE_HD float whole_round(float x) { return ::roundf(x); }  // halves away from zero
DETCORE_HD double whole_round(double x) { return ::round(x); }

template <class T>
struct RoiBins {
  int64_t start;  // the first pixel of the region; may be outside the map
  int64_t size;   // of the map, in pixels; 0: all bins are empty
  T extent;       // of a bin, in pixels

  // The pixels [begin(b), end(b)) of bin b that are inside the map. Both ascend with b.
  DETCORE_HD int64_t begin(int64_t b) const { return inside(whole_floor(T(b) * extent)); }
  DETCORE_HD int64_t end(int64_t b) const { return inside(whole_ceil(T(b + 1) * extent)); }

  DETCORE_HD int64_t inside(T edge) const {
    const int64_t at = int64_t(edge) + start;
    return at < 0 ? 0 : at > size ? size : at;
  }
};

// The pixel of a corner. The limit keeps sums of a few of them inside 64 bits.
template <class T>
DETCORE_HD int64_t whole_pixel(T x) {
  const T most = T(int64_t(1) << 60), whole = whole_round(x);
  return int64_t(whole < -most ? -most : whole > most ? most : whole);
}

// low and high are the region's edges in pixels of the image. A region that ends before it begins
// is one pixel wide. One with an edge that is not finite has empty bins.
template <class T>
DETCORE_HD RoiBins<T> roi_bins(T low, T high, T scale, int64_t bins, int64_t size) {
  const T from = low * scale, to = high * scale;
  // x - x is NaN for NaN and infinity
  if (!(from - from == T(0)) || !(to - to == T(0))) return {0, 0, T(0)};
  const int64_t start = whole_pixel(from), pixels = whole_pixel(to) - start + 1;
  return {start, size, T(pixels < 1 ? 1 : pixels) / T(bins)};
}

}  // namespace DETCORE_ISA
}  // namespace detcore
