// Rotated boxes in global memory: five numbers each, and gradients of these.
#pragma once

#include "detcore/rotated_box.h"
#include "dispatch.cuh"

namespace detcore {

constexpr int kRotatedNumbers = 5;  // centre, sides, angle

// Box i, measured.
template <class S, class T = arithmetic_t<S>>
__device__ RotatedBox<T, double> load_rotated(const S* boxes, int64_t i) {
  const S* b = boxes + kRotatedNumbers * i;
  return measure_rotated<T>(widen(b[0]), widen(b[1]), widen(b[2]), widen(b[3]), widen(b[4]));
}

template <class T>
__device__ void store_rotated_grad(T* grads, int64_t i, const RotatedGrad<T>& g) {
  T* to = grads + kRotatedNumbers * i;
  to[0] = g.x, to[1] = g.y, to[2] = g.w, to[3] = g.h, to[4] = g.angle;
}

}  // namespace detcore
