// The checks and preparations that roi_align and multiscale_roi_align share.
#pragma once

#include "detcore/roi_align.h"
#include "regions.h"

namespace detcore {

struct RoiSettings {
  int64_t out_height, out_width;
  int64_t sampling_ratio;
  bool aligned;
};

// A map's size, [images, channels, height, width], and its scale.
struct RoiMap {
  Sizes size;
  double spatial_scale;
};

// Checks sizes, ROIs and settings. The caller must set the pointers. `name` is the name of the maps
// in messages.
RoiAlignParams check_roi_align(const char* op, const char* name, const std::vector<RoiMap>& maps,
                               const Tensor& rois, DType dtype, const RoiSettings&);

// Checks the gradient of the pooled result and converts it to the layout of the kernel.
Tensor kernel_grad(const char* op, const Tensor& grad, const Tensor& rois, const RoiAlignParams&);

// Allocate the workspace, and call the kernels.
void run_roi_align(const char* op, RoiAlignParams&, const Tensor& where);
void run_roi_align_backward(const char* op, RoiAlignBackwardParams&, const Tensor& where);

}  // namespace detcore
