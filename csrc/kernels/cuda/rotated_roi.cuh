// The geometry of all regions of roi_align_rotated, which a kernel of its own computes first: sines
// and cosines are of double precision, and so too much for each thread that pools.
#pragma once

#include "launch.cuh"  // first: it says how the shared header's loops are unrolled

#include "detcore/roi_align_rotated.h"

namespace detcore {
namespace {

constexpr int kRoiThreads = 64;

// rois: [n]. A region whose image index is out of range has no samples.
template <class T>
__global__ __launch_bounds__(kRoiThreads) void geometry_kernel(RoiAlignRotatedParams p,
                                                               RotatedRoi<T>* rois) {
  for (int64_t i = global_thread(); i < p.n; i += all_threads()) {
    RotatedRoi<T> roi = rotated_roi<T>(p, i);
    const T image = static_cast<const T*>(p.rois)[6 * i];
    if (!(image > T(-1) && image < T(p.images))) roi.rows.samples = roi.columns.samples = 0;
    rois[i] = roi;
  }
}

template <class T>
Status compute_geometry(const RoiAlignRotatedParams& p, Stream stream) {
  return launch(geometry_kernel<T>, {blocks_for(p.n, kRoiThreads), kRoiThreads}, stream, p,
                static_cast<RotatedRoi<T>*>(p.workspace));
}

}  // namespace
}  // namespace detcore
