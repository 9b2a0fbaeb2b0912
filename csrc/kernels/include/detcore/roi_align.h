// roi_align and multiscale_roi_align, forward and backward: ROI-align (He et al., Mask R-CNN, ICCV
// 2017) with torchvision's sampling rule, from one map or from the levels of a pyramid (Lin et al.,
// Feature Pyramid Networks, CVPR 2017).
//
// Each output bin is the mean of samples_y x samples_x bilinear samples; a sample more than one
// pixel outside the map counts as 0. The rule is separable: the weight of a sample is the product
// of a row's and a column's weight. With sampling_ratio <= 0 there are ceil(bin size) samples. An
// ROI with a coordinate that is not finite pools to zeros and gets no gradient. On CUDA the same
// holds if its image index is out of range; on the CPU the caller must check that. Inf and NaN in
// the map or in the gradient propagate. Deterministic: one thread computes each sum, in an order
// that depends only on the ROIs (on CUDA it is their given order); no atomics.
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
  const void* grad_out;            // shape of `out`
  void* grad_inputs[kMostLevels];  // shapes of the maps; f64 for f64, else f32; all written
};

inline namespace DETCORE_ISA {

// The level that an ROI is pooled from: the last level whose least area it reaches, or the first
// level if its area is NaN.
template <class T>
DETCORE_HD int level_of(const RoiAlignParams& p, const T* roi) {
  const T area = (roi[3] - roi[1]) * (roi[4] - roi[2]);
  int level = 0;
  for (int l = 1; l < p.level_count; ++l) level += area >= T(p.levels[l].area_from);
  return level;
}

}  // namespace DETCORE_ISA

// Weights are computed once per ROI and shared by all channels. The work is divided among threads
// by blocks of planes (channels-last: of channels), so that a few planes stay in cache for all
// ROIs, and by ROIs.
size_t roi_align_workspace_cpu(const RoiAlignParams&);
Status roi_align_cpu(const RoiAlignParams&, const Executor&);
// The work is divided among threads by blocks of planes (channels-last: bands of rows), so each
// element has one writer.
Status roi_align_backward_cpu(const RoiAlignBackwardParams&, const Executor&);

// Forward, all levels in one launch. With a sampling ratio of 1 or 2 a thread owns a bin for some
// channels. It computes pixels and weights once, keeps them in registers, and reads 16 values per
// channel (9 if the samples of all bins of the warp share pixels), all of them in flight. A thread
// computes one output (NCHW) or 16 bytes of channels (channels-last, if C * element is a multiple
// of 16 bytes, and maps and out are aligned to 16). For other ratios, a block of 128 threads pools
// one ROI's window of up to 32 x 32 bins for up to 64 channels. The pixels and weights of each bin
// along each axis are listed once, in shared memory, so a pixel is read once per bin, even if many
// samples use it. Adaptive sampling launches another kernel for ROIs of more than 512 samples per
// axis and window, whose lists don't fit. Memory traffic: reads what the bins touch of the maps,
// writes n * C * out_height * out_width elements. Limited by the sector rate of L1 and L2.
Status roi_align_cuda(const RoiAlignParams&, Stream);
// Backward, one launch. A block of 256 threads owns a tile of 8 x 8 pixels of one image's map and
// 32 channels, in registers. It goes through the ROIs in order and skips those that miss the tile:
// O(tiles * n * C / 32) tests of about a dozen operations, no atomics. The weights of bins are
// computed for 16 ROIs at a time. The gradient of up to 8 x 8 bins is loaded to shared memory while
// the previous ROI is added, and a pixel uses only the bins that have a weight there. Memory
// traffic: every element of the maps' gradient once; grad_out once per tile that the ROI reaches.
Status roi_align_backward_cuda(const RoiAlignBackwardParams&, Stream);

}  // namespace detcore
