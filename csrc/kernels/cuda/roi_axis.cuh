// Converts a region of interest to an image index and one RoiAxis each for rows and columns.
#pragma once

#include <cuda_runtime.h>

#include "detcore/roi_align.h"

namespace detcore {

// roi: image, x1, y1, x2, y2 in pixels of the image. samples: p.sampling_ratio, or its value as a
// constant if the caller knows it.
template <class T>
__device__ RoiAxis<T> axis_of(const RoiAlignParams& p, const T* roi, int level, bool columns,
                              int32_t samples) {
  const RoiLevel& l = p.levels[level];
  const T low = columns ? roi[1] : roi[2], high = columns ? roi[3] : roi[4];
  return roi_axis(low, high, T(l.spatial_scale), p.aligned, samples,
                  columns ? p.out_width : p.out_height, columns ? l.width : l.height);
}

template <class T>
__device__ RoiAxis<T> axis_of(const RoiAlignParams& p, const T* roi, int level, bool columns) {
  return axis_of(p, roi, level, columns, p.sampling_ratio);
}

// Returns -1 if the image index is out of range.
template <class T>
__device__ int64_t image_of(const RoiAlignParams& p, const T* roi) {
  return roi[0] > T(-1) && roi[0] < T(p.images) ? int64_t(roi[0]) : -1;
}

}  // namespace detcore
