// roi_align and multiscale_roi_align, forward and backward: ROI-align (He et al., Mask R-CNN, ICCV
// 2017) with torchvision's sampling rule, from one map or from the levels of a pyramid (Lin et al.,
// Feature Pyramid Networks, CVPR 2017).
//
// Each output bin is the mean of samples_y x samples_x bilinear samples; a sample beyond one pixel
// outside the map counts as 0. The rule is separable: a sample's weight is a product of a row's and
// a column's. sampling_ratio <= 0 takes ceil(bin size) samples. An ROI with a coordinate that is
// not finite pools to zeros and takes no gradient; on CUDA so does one whose image is out of range
// (the CPU's caller has checked). Inf and NaN in the map or in the gradient propagate.
// Deterministic: one thread an element takes its sum, in an order that the ROIs alone decide (on
// CUDA their own); no atomics.
#pragma once

#include "detcore/core.h"
#include "detcore/roi_sampling.h"

namespace detcore {

constexpr int kMostLevels = 8;

// One map of a pyramid.
struct RoiLevel {
  const void* map;  // [images, channels, height, width]
  int64_t height, width;
  double spatial_scale;  // pixels of the map per pixel of the image
  double area_from;      // level_from() of this level, for boxes in pixels^2; unused for the first
};

struct RoiAlignParams {
  RoiLevel levels[kMostLevels];  // finest first; a single map is a pyramid of one level
  const void* rois;              // [n, 5]: image, x1, y1, x2, y2 in pixels of the image; f64 if the
                                 // maps are, else f32
  void* out;        // [n, channels, out_height, out_width]; channels_last: its strides too
  void* workspace;  // CPU: roi_align_workspace_cpu() bytes, 64-byte aligned. CUDA: unused
  int64_t images, channels, n;
  int32_t level_count;  // 1 to kMostLevels
  int32_t out_height, out_width;
  int32_t sampling_ratio;
  DType dtype;         // of the maps and out
  bool channels_last;  // layout of the maps and out: dense NHWC, else dense NCHW
  bool aligned;        // pixel centres at .5
};

struct RoiAlignBackwardParams {
  RoiAlignParams forward;          // maps and `out` unused
  const void* grad_out;            // as `out`
  void* grad_inputs[kMostLevels];  // as the maps but f64 for f64, else f32: every element written
};

inline namespace DETCORE_ISA {

// The level that an ROI is pooled from: the last whose least area it reaches; the first for NaN.
template <class T>
DETCORE_HD int level_of(const RoiAlignParams& p, const T* roi) {
  const T area = (roi[3] - roi[1]) * (roi[4] - roi[2]);
  int level = 0;
  for (int l = 1; l < p.level_count; ++l) level += area >= T(p.levels[l].area_from);
  return level;
}

}  // namespace DETCORE_ISA

// Weights are made once an ROI and shared by all channels. Threads share out blocks of planes, so
// that a few stay in cache while all ROIs pass over them (channels-last: of channels), and ROIs.
size_t roi_align_workspace_cpu(const RoiAlignParams&);
Status roi_align_cpu(const RoiAlignParams&, const Executor&);
// Threads share out blocks of planes (channels-last: bands of rows), so an element has one writer.
Status roi_align_backward_cpu(const RoiAlignBackwardParams&, const Executor&);

// Forward, all levels in one launch. With a sampling ratio of 1 or 2 a thread owns a bin for some
// channels: it places the samples once, keeps pixels and weights in registers, and reads 16 (or 9,
// where the samples of a warp's bins meet in pixels) values per channel, all of them in flight. A
// thread takes an output (NCHW) or 16 bytes of channels (channels-last; C * element a multiple of
// 16 bytes, maps and out aligned to 16). Other ratios: a block of 128 threads pools one ROI's
// window of up to 32 x 32 bins for up to 64 channels; each bin's pixels and weights along either
// axis are listed once, in shared memory, so that a pixel is read once per bin however many samples
// meet in it. Adaptive sampling launches another kernel for ROIs of more than 512 samples per axis
// and window, whose lists don't fit. Bytes: what the bins touch of the maps, n * C * out_height *
// out_width elements out. Bound by L2's and L1's rate of sectors.
Status roi_align_cuda(const RoiAlignParams&, Stream);
// Backward, one launch: a block of 256 threads owns a tile of 8 x 8 pixels of one image's map and
// 32 channels in registers, takes the ROIs in order and skips those that miss the tile: O(tiles * n
// * C / 32) tests of a dozen operations, no atomics. Each bin's samples are placed once for 16 ROIs
// at a time; the gradient of up to 8 x 8 bins is brought to shared memory while the ROI before it
// is added up, and a pixel meets only the bins that weigh something there. Bytes: every element of
// the maps' gradient once; grad_out once per tile that the ROI reaches.
Status roi_align_backward_cuda(const RoiAlignBackwardParams&, Stream);

}  // namespace detcore
