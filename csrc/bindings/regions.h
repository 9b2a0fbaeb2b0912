// The checks and preparations that all ops share which pool regions of maps.
#pragma once

#include "binding.h"

namespace detcore {

// Checks the shape of regions, [N, numbers], the size of the result, and the scale of a map.
void check_regions(const char* op, const Tensor& rois, int64_t out_height, int64_t out_width,
                   int64_t numbers = 5);
void check_scale(const char* op, double spatial_scale);

// Checks the size of a map that a gradient is wanted for: [N, C, H, W].
void check_map_size(const char* op, const Sizes& map_size);

// Converts regions for the kernel of maps of this dtype. On the CPU, where that costs nothing, it
// also checks their image indices: one out of range would read other memory.
Tensor kernel_rois(const char* op, const Tensor& rois, int64_t images, DType dtype);

// Itself, or a copy that is dense in that layout.
Tensor in_layout(const Tensor&, bool channels_last);

}  // namespace detcore
