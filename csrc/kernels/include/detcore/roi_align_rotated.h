// roi_align_rotated, forward and backward: ROI-align of regions that are turned (Ma et al.,
// Arbitrary-Oriented Scene Text Detection via Rotation Proposals, TMM 2018), with detectron2's and
// mmcv's sampling rule.
//
// Each output bin is the mean of samples_y x samples_x bilinear samples on a grid along the
// region's sides (rotated_sampling.h); a sample more than one pixel outside the map counts as 0.
// With sampling_ratio <= 0 there are ceil(bin size) samples; where that is none the bin is 0. A
// region with a number that is not finite pools to zeros and gets no gradient. On CUDA the same
// holds if its image index is out of range; on the CPU the caller must check that. A pixel of
// weight 0 is not read. Inf and NaN in other pixels and in the gradient propagate. Deterministic:
// one thread computes each sum, in an order that depends only on the regions (on CUDA it is their
// given order); no atomics.
#pragma once

#include "detcore/core.h"
#include "detcore/rotated_sampling.h"

namespace detcore {

struct RoiAlignRotatedParams {
  const void* map;   // [images, channels, height, width]
  const void* rois;  // [n, 6]: image, centre x, y, width, height in pixels of the image, degrees;
                     // f64 if the map is, else f32
  void* out;         // [n, channels, out_height, out_width]; channels_last: its strides too
  void* workspace;   // roi_align_rotated_workspace_*() bytes, 64-byte aligned
  int64_t images, channels, height, width, n;
  double spatial_scale;  // pixels of the map per pixel of the image
  int32_t out_height, out_width;
  int32_t sampling_ratio;
  DType dtype;         // of map and out
  bool channels_last;  // layout of map and out: dense NHWC, else dense NCHW
  bool aligned;        // pixel centres at .5; else sides are at least one pixel of the map long
  bool clockwise;      // the angle turns clockwise as the image is seen, else counter-clockwise
};

struct RoiAlignRotatedBackwardParams {
  RoiAlignRotatedParams forward;  // map and out unused
  const void* grad_out;           // shape and layout of out, in the map's dtype
  void* grad_input;               // shape and layout of the map; f64 for f64, else f32; all written
};

inline namespace DETCORE_ISA {

template <class T>
DETCORE_HD RotatedRoi<T> rotated_roi(const RoiAlignRotatedParams& p, int64_t i) {
  const T* roi = static_cast<const T*>(p.rois) + 6 * i;
  return rotated_roi(roi, T(p.spatial_scale), p.aligned, p.clockwise, p.sampling_ratio,
                     {p.out_height, p.out_width, p.height, p.width});
}

}  // namespace DETCORE_ISA

// What each bin takes from which pixel is listed once per region and shared by all channels. The
// work is divided among threads by blocks of planes (channels-last: by regions). Of a contiguous
// map neighbouring regions share a copy of their pixels that has a few planes side by side.
size_t roi_align_rotated_workspace_cpu(const RoiAlignRotatedParams&);
Status roi_align_rotated_cpu(const RoiAlignRotatedParams&, const Executor&);
// The work is divided among threads by blocks of planes or channels, and by bands of rows where
// these are few, so each element has one writer.
Status roi_align_rotated_backward_cpu(const RoiAlignRotatedBackwardParams&, const Executor&);

// Two launches: the geometry of all regions, one thread per region, and the pooling. There a thread
// owns a bin for four planes, or for 16 bytes of channels (channels-last, if C * element is a
// multiple of 16 bytes, and map and out are aligned to 16), and has the four pixels of a sample for
// all of these in flight. Memory traffic: reads four pixels per sample, mostly from L1, writes out.
size_t roi_align_rotated_workspace_cuda(const RoiAlignRotatedParams&);
Status roi_align_rotated_cuda(const RoiAlignRotatedParams&, Stream);
// Two launches likewise. A block of 256 threads owns a tile of 8 x 8 pixels of one image's map and
// 64 channels, in registers: a warp has a row of pixels, and a lane two channels. The block lists
// the regions that reach the tile, and their bins that do, in order. 32 of these at a time have
// their weights for all pixels and their gradient in shared memory. Memory traffic: every element
// of the map's gradient once; grad_out once per tile that the bin reaches.
Status roi_align_rotated_backward_cuda(const RoiAlignRotatedBackwardParams&, Stream);

}  // namespace detcore
