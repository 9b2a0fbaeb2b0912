// Decides whether one box suppresses another in NMS: double(inter / union) > threshold, as in
// torchvision, with inter and union in the boxes' arithmetic type. Scalars, SIMD lanes and device
// code share it, so that CPU and CUDA can't differ.
//
// A division is slow, and rounding matters only near the threshold. So a multiplication decides if
// the quotient differs from the threshold by more than rounding errors, which is nearly always the
// case. Otherwise the quotient decides.
#pragma once

#include "detcore/box.h"

namespace detcore {
inline namespace DETCORE_ISA {

// Areas below this have lost precision. The margins of NmsDecision and the search radius of a grid
// are valid only above it.
template <class T>
constexpr T kLeastExactArea = T(sizeof(T) == 8 ? 1e-280 : 1e-30);

template <class T>
struct NmsDecision {
  T below;         // the largest T not above the threshold: q > threshold just when q > below
  T surely_below;  // inter < surely_below * union: the quotient is not above
  // Inter <= strictly_below * union: not above either, if the areas are exact enough
  T strictly_below;
  T surely_above;  // inter > surely_above * union: the quotient is above

  DETCORE_HD explicit NmsDecision(double threshold) {
    below = T(threshold);
    if (double(below) > threshold) below = T(::nextafterf(float(below), 0.0f));
    surely_below = below * T(1 - 1e-6);
    // near a threshold of 0 the product might underflow, so we always compute the quotient
    const bool next_to_0 = !(below > T(1e-6));
    strictly_below = next_to_0 ? T(0) : surely_below;
    surely_above = next_to_0 ? T(HUGE_VAL) : below * T(1 + 1e-6);
  }

  // Returns false if surely not above, without a division. U is T or Lanes<T>.
  template <class U>
  DETCORE_HD auto may_be_above(U inter, U uni) const {
    return inter >= U(surely_below) * uni;
  }
  template <class U>
  DETCORE_HD auto is_above(U inter, U uni) const {
    return inter / uni > U(below);
  }

  DETCORE_HD bool operator()(const Box<T>& a, const Box<T>& b) const {
    const T inter = intersection(a, b);
    const T uni = union_area(a.area(), b.area(), inter);
    if (!may_be_above(inter, uni)) return false;
    return inter > surely_above * uni || is_above(inter, uni);
  }
};

}  // namespace DETCORE_ISA
}  // namespace detcore
