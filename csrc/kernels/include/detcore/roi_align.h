// ROI-align (He et al., Mask R-CNN, ICCV 2017) with torchvision's sampling rule.
//
// Each output bin is the mean of samples_y x samples_x bilinear samples; a sample beyond one pixel
// outside the map counts as 0. The rule is separable: a sample's weight is a product of a row's and
// a column's. sampling_ratio <= 0 takes ceil(bin size) samples. An ROI with a coordinate that is
// not finite pools to zeros and takes no gradient; on CUDA so does one whose image is out of range
// (the CPU's caller has checked). Inf and NaN in the map or in the gradient propagate.
// Deterministic: sums are taken in ROI order by one thread an element; no atomics.
#pragma once

#include "detcore/core.h"
#include "detcore/roi_sampling.h"

namespace detcore {

struct RoiAlignParams {
  const void* input;  // [images, channels, height, width], strides below
  const void* rois;  // [n, 5]: image, x1, y1, x2, y2 in pixels of spatial_scale 1; f64 if input is,
                     // else f32
  void* out;         // [n, channels, out_height, out_width]; channels_last: its strides too
  int64_t images, channels, height, width, n;
  int32_t out_height, out_width;
  int32_t sampling_ratio;
  DType dtype;         // of input and out
  bool channels_last;  // layout of input and out: dense NHWC, else dense NCHW
  bool aligned;        // pixel centres at .5
  double spatial_scale;
};

struct RoiAlignBackwardParams {
  RoiAlignParams forward;  // `input` and `out` unused
  const void* grad_out;    // as `out`
  void* grad_input;        // as `input` but f64 for f64, else f32: every element written
};

// Threads share out blocks of planes, so that a few stay in cache while all regions pass over them;
// channels-last forward: regions.
Status roi_align_cpu(const RoiAlignParams&, const Executor&);
Status roi_align_backward_cpu(const RoiAlignBackwardParams&, const Executor&);

// Forward: a thread an output (NCHW) or 16 bytes of channels (channels-last).
Status roi_align_cuda(const RoiAlignParams&, Stream);
// Backward: a block owns a tile of 8 x 8 pixels of one image and some channels, walks the image's
// ROIs in order and skips those that miss the tile: O(tiles * n) tests, no atomics.
Status roi_align_backward_cuda(const RoiAlignBackwardParams&, Stream);

}  // namespace detcore
