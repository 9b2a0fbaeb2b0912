// When NMS lets one box suppress another: double(inter / union) > threshold, as torchvision has it,
// inter and union in the boxes' arithmetic. Written once for scalars, SIMD lanes and device code,
// so that CPU and CUDA can't differ.
//
// A division is slow, and rounding matters near the threshold alone. A multiplication decides where
// the quotient is off by more than any rounding, which is nearly always; the quotient decides the
// rest.
#pragma once

#include "detcore/box.h"

namespace detcore {
inline namespace DETCORE_ISA {

// Products of sides below this area have lost digits: the bands of NmsDecision, and what a grid
// infers from overlaps of sides, hold above it alone.
template <class T>
constexpr T kLeastExactArea = sizeof(T) == 8 ? T(1e-280) : T(1e-30);

template <class T>
struct NmsDecision {
  T below;           // the largest T not above the threshold: q > threshold just when q > below
  T surely_below;    // inter < surely_below * union: the quotient is not above
  T strictly_below;  // inter <= strictly_below * union: likewise, if the areas are exact enough
  T surely_above;    // inter > surely_above * union: the quotient is above

  DETCORE_HD explicit NmsDecision(double threshold) {
    below = T(threshold);
    if (double(below) > threshold) below = T(::nextafterf(float(below), 0.0f));
    surely_below = below * T(1 - 1e-6);
    // a quotient might underflow under a threshold next to 0: it is then always taken
    const bool next_to_0 = !(below > T(1e-6));
    strictly_below = next_to_0 ? T(0) : surely_below;
    surely_above = next_to_0 ? T(HUGE_VAL) : below * T(1 + 1e-6);
  }

  // U: T, or lanes of it. False: surely not above, without a division.
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
