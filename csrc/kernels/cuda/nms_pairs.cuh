// How greedy NMS compares two boxes: the part of a Source (greedy_nms.cuh) that differs between
// upright boxes, rotated ones and boxes in space.
#pragma once

#include "detcore/box3d.h"
#include "detcore/nms_decision.h"

namespace detcore {

template <class T>
struct UprightBoxes {
  __device__ bool may_suppress(const NmsDecision<T>& decision, const Box<T>& a, const Box<T>& b,
                               T b_area) const {
    const T inter = intersection(a, b);
    return decision.may_be_above(inter, union_area(a.area(), b_area, inter));
  }
  __device__ bool suppresses(const NmsDecision<T>& decision, const Box<T>& a, int64_t,
                             const Box<T>& b, int64_t) const {
    return decision(a, b);
  }
};

// The comparisons of rotated boxes, for which those of the source are the upright boxes around.
template <class T, class Measured>
struct MeasuredPairs {
  const Measured* measured;  // [n] in the order of the input

  __device__ bool may_suppress(const NmsDecision<T>&, const Box<T>& a, const Box<T>& b, T) const {
    return intersection(a, b) > T(0);
  }
  __device__ bool suppresses(const NmsDecision<T>& decision, const Box<T>& a, int64_t a_index,
                             const Box<T>& b, int64_t b_index) const {
    return intersection(a, b) > T(0) &&
           rotated_overlap(measured[a_index], measured[b_index]) > decision.below;
  }
};
template <class T>
struct RotatedBoxes : MeasuredPairs<T, RotatedBox<T, double>> {};
template <class T>
struct BoxesInSpace : MeasuredPairs<T, Box3d<T, double>> {};

// The threshold that the grid may use: an IoU of rotated boxes says nothing about the upright ones.
template <class T>
__device__ T grid_threshold(const UprightBoxes<T>&, T below) {
  return below;
}
template <class T, class Measured>
__device__ T grid_threshold(const MeasuredPairs<T, Measured>&, T) {
  return T(0);
}

}  // namespace detcore
