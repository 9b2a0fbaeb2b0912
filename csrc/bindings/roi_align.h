// What roi_align and multiscale_roi_align check and prepare alike; each has a file beside this one.
#pragma once

#include "binding.h"
#include "detcore/roi_align.h"

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

// Sizes, ROIs and settings, checked; the pointers are the caller's to fill. `name` is the maps'.
RoiAlignParams check_roi_align(const char* op, const char* name, const std::vector<RoiMap>& maps,
                               const Tensor& rois, DType dtype, const RoiSettings&);

// ROIs as the kernel reads them. On the CPU each must name one of the images.
Tensor kernel_rois(const char* op, const Tensor& rois, const RoiAlignParams&);

// A gradient of the pooled result, checked, in the layout that the kernel reads.
Tensor kernel_grad(const char* op, const Tensor& grad, const Tensor& rois, const RoiAlignParams&);

// The operators' bodies, with all but the workspace in place.
void run_roi_align(const char* op, RoiAlignParams&, const Tensor& where);
void run_roi_align_backward(const char* op, RoiAlignBackwardParams&, const Tensor& where);

}  // namespace detcore
