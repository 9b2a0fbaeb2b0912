#include "detcore/roi_pool.h"

#include "regions.h"

namespace detcore {
namespace {

// Checks sizes and settings. The caller must set the pointers.
RoiPoolParams check_roi_pool(const char* op, const Sizes& map_size, const Tensor& rois, DType dtype,
                             double spatial_scale, int64_t out_height, int64_t out_width) {
  check_regions(op, rois, out_height, out_width);
  check_scale(op, spatial_scale);
  constexpr int64_t most = 1 << 30;  // the kernel has 32-bit integers
  if (out_height > most || out_width > most)
    fail(op, ": output_size must be at most ", most, ", got ", out_height, " x ", out_width);
  RoiPoolParams p{};
  p.n = rois.size(0);
  p.images = map_size[0], p.channels = map_size[1], p.height = map_size[2], p.width = map_size[3];
  check_addressable(op, {p.n, p.channels, out_height, out_width});
  check_addressable(op, map_size);
  // the places of maxima are 32-bit integers
  if (p.height > 0 && p.width > INT32_MAX / p.height)
    fail(op, ": input must have fewer than 2147483648 pixels per channel, got ", p.height, " x ",
         p.width);
  p.spatial_scale = spatial_scale;
  p.out_height = int32_t(out_height), p.out_width = int32_t(out_width);
  p.dtype = dtype;
  return p;
}

using Pooled = std::tuple<Tensor, Tensor>;

// Returns the maxima, and for each y * width + x of its pixel, int32, or -1.
Pooled roi_pool(const Tensor& input, const Tensor& rois, double spatial_scale, int64_t out_height,
                int64_t out_width) {
  const char* op = "roi_pool";
  if (input.dim() != 4) fail(op, ": input must be [N, C, H, W], got ", shape_of(input));
  const DType dtype = check_float(op, "input", input);
  check_float(op, "boxes", rois);
  check_same_device(op, "input", input, "boxes", rois);
  RoiPoolParams p =
      check_roi_pool(op, sizes_of(input), rois, dtype, spatial_scale, out_height, out_width);
  p.channels_last = is_channels_last(input);
  const Tensor map = p.channels_last ? input : dense(input);
  const Tensor r = kernel_rois(op, rois, p.images, dtype);
  const Sizes size = {p.n, p.channels, out_height, out_width};
  Pooled out{allocate(size, input.scalar_type(), input, p.channels_last),
             allocate(size, ScalarType::Int, input, p.channels_last)};
  p.map = data(map), p.rois = data(r);
  p.out = data(std::get<0>(out)), p.argmax = data<int32_t>(std::get<1>(out));
  DETCORE_RUN(roi_pool, p, input);
  return out;
}

// Returns the gradient of the map, [N, C, H, W] = map_size, in grad's dtype and the map's layout.
Tensor roi_pool_backward(const Tensor& grad, const Tensor& rois, const Tensor& argmax,
                         double spatial_scale, const std::vector<int64_t>& map_size,
                         bool channels_last) {
  const char* op = "roi_pool_backward";
  const DType dtype = check_float(op, "grad", grad);
  check_float(op, "boxes", rois);
  check_same_device(op, "grad", grad, "boxes", rois);
  check_same_device(op, "grad", grad, "argmax", argmax);
  check_map_size(op, map_size);
  if (argmax.scalar_type() != ScalarType::Int)
    fail(op, ": argmax must be int32, got ", dtype_of(argmax));
  if (grad.dim() != 4) fail(op, ": grad must be [K, C, H, W], got ", shape_of(grad));
  RoiPoolBackwardParams b{};
  RoiPoolParams& p = b.forward;
  p = check_roi_pool(op, map_size, rois, dtype, spatial_scale, grad.size(2), grad.size(3));
  p.channels_last = channels_last;
  check_grad(op, grad, {p.n, p.channels, p.out_height, p.out_width}, rois);
  check_same_shape(op, "grad", grad, "argmax", argmax);
  const Tensor g = in_layout(grad, channels_last), places = in_layout(argmax, channels_last);
  const Tensor r = kernel_rois(op, rois, p.images, dtype);
  Tensor out = allocate(map_size, scalar_of(result_of(dtype)), grad, channels_last);
  p.rois = data(r), p.argmax = data<int32_t>(places);
  b.grad_out = data(g), b.grad_input = data(out);
  DETCORE_RUN(roi_pool_backward, b, grad);
  return as_dtype(out, grad.scalar_type());
}

DETCORE_OP(roi_pool,
           "(Tensor input, Tensor rois, float spatial_scale, SymInt out_height, SymInt out_width) "
           "-> (Tensor, Tensor)");
DETCORE_OP(roi_pool_backward,
           "(Tensor grad, Tensor rois, Tensor argmax, float spatial_scale, SymInt[] map_size, bool "
           "channels_last) -> Tensor");

}  // namespace
}  // namespace detcore
