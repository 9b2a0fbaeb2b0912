#include "detcore/roi_align_rotated.h"

#include "regions.h"

namespace detcore {
namespace {

struct Settings {
  double spatial_scale;
  int64_t out_height, out_width, sampling_ratio;
  bool aligned, clockwise;
};

// Checks sizes and settings. The caller must set the pointers.
RoiAlignRotatedParams check(const char* op, const Sizes& map_size, const Tensor& rois, DType dtype,
                            const Settings& settings) {
  check_regions(op, rois, settings.out_height, settings.out_width, 6);
  check_scale(op, settings.spatial_scale);
  constexpr int64_t most = 1 << 30;  // the kernel has 32-bit integers
  if (settings.out_height > most || settings.out_width > most || settings.sampling_ratio > most)
    fail(op, ": output_size and sampling_ratio must be at most ", most, ", got ",
         settings.out_height, " x ", settings.out_width, " and ", settings.sampling_ratio);
  RoiAlignRotatedParams p{};
  p.n = rois.size(0);
  p.images = map_size[0], p.channels = map_size[1], p.height = map_size[2], p.width = map_size[3];
  check_addressable(op, {p.n, p.channels, settings.out_height, settings.out_width});
  check_addressable(op, map_size);
  if (p.height > INT32_MAX || p.width > INT32_MAX)
    fail(op, ": input must have fewer than 2147483648 rows and columns, got ", p.height, " x ",
         p.width);
  if (p.n > 0 && (p.images == 0 || p.height == 0 || p.width == 0))
    fail(op, ": input must not be empty where there are boxes, got ", shape_of(map_size));
  p.spatial_scale = settings.spatial_scale;
  p.out_height = int32_t(settings.out_height), p.out_width = int32_t(settings.out_width);
  p.sampling_ratio = settings.sampling_ratio > 0 ? int32_t(settings.sampling_ratio) : -1;
  p.aligned = settings.aligned, p.clockwise = settings.clockwise;
  p.dtype = dtype;
  return p;
}

Tensor workspace_for(RoiAlignRotatedParams& p, const Tensor& where) {
  size_t bytes = 0;
  if (!on_cuda(where)) bytes = roi_align_rotated_workspace_cpu(p);
#if defined(DETCORE_WITH_CUDA)
  if (on_cuda(where)) bytes = roi_align_rotated_workspace_cuda(p);
#endif
  Tensor workspace = allocate({int64_t(bytes)}, ScalarType::Byte, where);
  p.workspace = data(workspace);
  return workspace;
}

Tensor roi_align_rotated(const Tensor& input, const Tensor& rois, double spatial_scale,
                         int64_t out_height, int64_t out_width, int64_t sampling_ratio,
                         bool aligned, bool clockwise) {
  const char* op = "roi_align_rotated";
  if (input.dim() != 4) fail(op, ": input must be [N, C, H, W], got ", shape_of(input));
  const DType dtype = check_float(op, "input", input);
  check_float(op, "boxes", rois);
  check_same_device(op, "input", input, "boxes", rois);
  RoiAlignRotatedParams p =
      check(op, sizes_of(input), rois, dtype,
            {spatial_scale, out_height, out_width, sampling_ratio, aligned, clockwise});
  p.channels_last = is_channels_last(input);
  const Tensor map = p.channels_last ? input : dense(input);
  const Tensor r = kernel_rois(op, rois, p.images, dtype);
  Tensor out = allocate({p.n, p.channels, out_height, out_width}, input.scalar_type(), input,
                        p.channels_last);
  p.map = data(map), p.rois = data(r), p.out = data(out);
  const Tensor workspace = workspace_for(p, input);
  DETCORE_RUN(roi_align_rotated, p, input);
  return out;
}

// Returns the gradient of the map, [N, C, H, W] = map_size, in grad's dtype and the map's layout.
Tensor roi_align_rotated_backward(const Tensor& grad, const Tensor& rois, double spatial_scale,
                                  int64_t out_height, int64_t out_width, int64_t sampling_ratio,
                                  bool aligned, bool clockwise,
                                  const std::vector<int64_t>& map_size, bool channels_last) {
  const char* op = "roi_align_rotated_backward";
  RoiAlignRotatedBackwardParams b{};
  RoiAlignRotatedParams& p = b.forward;
  const DType dtype = check_float(op, "grad", grad);
  check_float(op, "boxes", rois);
  check_same_device(op, "grad", grad, "boxes", rois);
  check_map_size(op, map_size);
  p = check(op, map_size, rois, dtype,
            {spatial_scale, out_height, out_width, sampling_ratio, aligned, clockwise});
  p.channels_last = channels_last;
  check_grad(op, grad, {p.n, p.channels, p.out_height, p.out_width}, rois);
  const Tensor g = in_layout(grad, channels_last);
  const Tensor r = kernel_rois(op, rois, p.images, dtype);
  Tensor out = allocate(map_size, scalar_of(result_of(dtype)), grad, channels_last);
  p.rois = data(r), b.grad_out = data(g), b.grad_input = data(out);
  const Tensor workspace = workspace_for(p, grad);
  DETCORE_RUN(roi_align_rotated_backward, b, grad);
  return as_dtype(out, grad.scalar_type());
}

DETCORE_OP(roi_align_rotated,
           "(Tensor input, Tensor rois, float spatial_scale, SymInt out_height, SymInt out_width, "
           "int sampling_ratio, bool aligned, bool clockwise) -> Tensor");
DETCORE_OP(roi_align_rotated_backward,
           "(Tensor grad, Tensor rois, float spatial_scale, SymInt out_height, SymInt out_width, "
           "int sampling_ratio, bool aligned, bool clockwise, SymInt[] map_size, bool "
           "channels_last) -> Tensor");

}  // namespace
}  // namespace detcore
