// roi_pool, forward and backward: the maximum of each bin of a region (Girshick, Fast R-CNN, ICCV
// 2015), with torchvision's bins (roi_bins.h).
//
// A bin without pixels is 0. Of equal values the first in row-major order is the maximum, which
// alone gets the gradient. NaN, and what is not above -FLT_MAX, is never a maximum: a bin of these
// alone is -FLT_MAX (in half precision that is -inf) and has no gradient, as in torchvision. A
// region with an edge that is not finite has empty bins. On CUDA so has one whose image index is
// out of range; on the CPU the caller must check that. Deterministic: each gradient is a sum in the
// order of regions and bins, by one thread; no atomics.
#pragma once

#include "detcore/core.h"
#include "detcore/roi_bins.h"

namespace detcore {

struct RoiPoolParams {
  const void* map;   // [images, channels, height, width]
  const void* rois;  // [n, 5]: image, x1, y1, x2, y2 in pixels of the image; f64 if the map is,
                     // else f32
  void* out;         // [n, channels, out_height, out_width]
  int32_t* argmax;   // as out: y * width + x of each maximum, -1: none
  int64_t images, channels, height, width, n;  // height * width < 2^31
  double spatial_scale;                        // pixels of the map per pixel of the image
  int32_t out_height, out_width;
  DType dtype;         // of map and out
  bool channels_last;  // layout of map, out and argmax: dense NHWC, else dense NCHW
};

struct RoiPoolBackwardParams {
  RoiPoolParams forward;  // map and out unused; argmax as the forward wrote it
  const void* grad_out;   // shape and layout of out, in the map's dtype
  void* grad_input;       // shape and layout of the map; f64 for f64, else f32; all written
};

constexpr float kNoMaximum = -3.402823466e+38f;  // -FLT_MAX

inline namespace DETCORE_ISA {

template <class T>
DETCORE_HD const T* roi_of(const RoiPoolParams& p, int64_t i) {
  return static_cast<const T*>(p.rois) + 5 * i;
}
template <class T>
DETCORE_HD RoiBins<T> row_bins(const RoiPoolParams& p, const T* roi) {
  return roi_bins(roi[2], roi[4], T(p.spatial_scale), p.out_height, p.height);
}
template <class T>
DETCORE_HD RoiBins<T> column_bins(const RoiPoolParams& p, const T* roi) {
  return roi_bins(roi[1], roi[3], T(p.spatial_scale), p.out_width, p.width);
}

}  // namespace DETCORE_ISA

// The work is divided among threads by blocks of planes and by regions (channels-last: by rows of
// bins).
Status roi_pool_cpu(const RoiPoolParams&, const Executor&);
// The work is divided among threads by planes (channels-last: by blocks of channels of an image),
// so each element has one writer. Reads grad_out and argmax once.
Status roi_pool_backward_cpu(const RoiPoolBackwardParams&, const Executor&);

// Forward, one launch. A thread owns a bin for two planes, or for 16 bytes of channels
// (channels-last, if C * element is a multiple of 16 bytes, and map and out are aligned to 16), and
// has the pixels of two places of the bin in flight. Memory traffic: reads each pixel once per bin
// that covers it, writes out and argmax.
Status roi_pool_cuda(const RoiPoolParams&, Stream);
// Backward, one launch. A block of 256 threads owns a tile of 8 x 32 pixels and 8 channels of one
// image (channels-last: 8 pixels and 256 channels), and keeps its sums in registers. It goes
// through the regions in order, skips those that miss the tile, and each pixel looks into the bins
// that cover it. Memory traffic: argmax and grad_out of such a bin once per pixel, mostly from L1;
// every element of the map's gradient is written once.
Status roi_pool_backward_cuda(const RoiPoolBackwardParams&, Stream);

}  // namespace detcore
