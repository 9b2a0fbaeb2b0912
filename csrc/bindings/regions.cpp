#include "regions.h"

namespace detcore {

void check_regions(const char* op, const Tensor& rois, int64_t out_height, int64_t out_width,
                   int64_t numbers) {
  check_rows(op, "boxes", rois, numbers);
  if (out_height <= 0 || out_width <= 0)
    fail(op, ": output_size must be positive, got ", out_height, " x ", out_width);
}

void check_scale(const char* op, double spatial_scale) {
  if (!(spatial_scale > 0)) fail(op, ": spatial_scale must be positive, got ", spatial_scale);
}

void check_map_size(const char* op, const Sizes& map_size) {
  bool possible = map_size.size() == 4;
  for (int64_t size : map_size) possible = possible && size >= 0;
  if (!possible) fail(op, ": map_size must be [N, C, H, W], got ", shape_of(map_size));
}

Tensor kernel_rois(const char* op, const Tensor& rois, int64_t images, DType dtype) {
  const Tensor r = dense(as_dtype(rois, scalar_of(result_of(dtype))));
  auto look = [&](auto* values) {
    for (int64_t i = 0; i < rois.size(0); ++i) {
      const double image = double(values[rois.size(1) * i]);
      if (!(image > -1 && image < double(images)))
        fail(op, ": boxes must name an image in [0, ", images, "), got ", image, " at box ", i);
    }
  };
  if (!on_cuda(r)) {
    if (dtype == DType::f64)
      look(data<const double>(r));
    else
      look(data<const float>(r));
  }
  return r;
}

Tensor in_layout(const Tensor& t, bool channels_last) {
  return torch::stable::contiguous(t, channels_last ? torch::headeronly::MemoryFormat::ChannelsLast
                                                    : torch::headeronly::MemoryFormat::Contiguous);
}

}  // namespace detcore
