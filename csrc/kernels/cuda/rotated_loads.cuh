// Loads rotated boxes and boxes in space.
#pragma once

#include "detcore/box3d.h"
#include "dispatch.cuh"

namespace detcore {

// Box i, measured.
template <class G, class S>
__device__ auto load_measured(G geometry, RotatedKind kind, const S* boxes, int64_t i) {
  return measure_box<arithmetic_t<S>>(geometry, kind, boxes + numbers_of(kind) * i,
                                      [](S number) { return widen(number); });
}
template <class S>
__device__ auto load_rotated(const S* boxes, int64_t i) {
  return load_measured(InPlane{}, RotatedKind::image, boxes, i);
}

}  // namespace detcore
