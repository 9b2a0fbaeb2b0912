#include "detcore/roi_align.h"

#include "binding.h"

namespace detcore {
namespace {

struct Pooling {
  int64_t out_height, out_width;
  double spatial_scale;
  int64_t sampling_ratio;
  bool aligned;
};

// Sizes, ROIs and settings, checked; the pointers are the caller's to fill.
RoiAlignParams check(const char* op, const Sizes& map, const Tensor& rois, const Pooling& pool) {
  check_rows(op, "boxes", rois, 5);
  if (pool.out_height <= 0 || pool.out_width <= 0)
    fail(op, ": output_size must be positive, got ", pool.out_height, " x ", pool.out_width);
  if (!(pool.spatial_scale > 0))
    fail(op, ": spatial_scale must be positive, got ", pool.spatial_scale);
  constexpr int64_t most = 1 << 30;  // what the kernel's 32 bits hold
  if (pool.out_height > most || pool.out_width > most || pool.sampling_ratio > most)
    fail(op, ": output_size and sampling_ratio must be at most ", most, ", got ", pool.out_height,
         " x ", pool.out_width, " and ", pool.sampling_ratio);
  RoiAlignParams p{};
  p.images = map[0], p.channels = map[1], p.height = map[2], p.width = map[3];
  p.n = rois.size(0);
  if (p.n > 0 && (p.images == 0 || p.height == 0 || p.width == 0))
    fail(op, ": input must not be empty where there are boxes, got [", p.images, ", ", p.channels,
         ", ", p.height, ", ", p.width, "]");
  p.out_height = int32_t(pool.out_height), p.out_width = int32_t(pool.out_width);
  p.sampling_ratio = pool.sampling_ratio > 0 ? int32_t(pool.sampling_ratio) : -1;
  p.aligned = pool.aligned, p.spatial_scale = pool.spatial_scale;
  return p;
}

// ROIs as the kernel reads them. An image index out of range would read another's memory; on the
// CPU it costs nothing to look.
Tensor kernel_rois(const char* op, const Tensor& rois, const RoiAlignParams& p) {
  const Tensor r = dense(as_dtype(rois, scalar_of(result_of(p.dtype))));
  auto look = [&](auto* values) {
    for (int64_t i = 0; i < p.n; ++i) {
      const double image = double(values[5 * i]);
      if (!(image > -1 && image < double(p.images)))
        fail(op, ": boxes must name an image in [0, ", p.images, "), got ", image, " at box ", i);
    }
  };
  if (!on_cuda(r)) {
    if (p.dtype == DType::f64)
      look(static_cast<const double*>(r.data_ptr()));
    else
      look(static_cast<const float*>(r.data_ptr()));
  }
  return r;
}

Tensor roi_align(const Tensor& input, const Tensor& rois, double spatial_scale, int64_t out_height,
                 int64_t out_width, int64_t sampling_ratio, bool aligned) {
  if (input.dim() != 4) fail("roi_align: input must be [N, C, H, W], got ", shape_of(input));
  const DType dtype = check_float("roi_align", "input", input);
  check_float("roi_align", "boxes", rois);
  check_same_device("roi_align", "input", input, "boxes", rois);
  RoiAlignParams p = check("roi_align", sizes_of(input), rois,
                           {out_height, out_width, spatial_scale, sampling_ratio, aligned});
  p.dtype = dtype;
  p.channels_last = is_channels_last(input);
  const Tensor map = p.channels_last ? input : dense(input);
  const Tensor r = kernel_rois("roi_align", rois, p);
  Tensor out = allocate({p.n, p.channels, out_height, out_width}, input.scalar_type(), input,
                        p.channels_last);
  p.input = map.data_ptr(), p.rois = r.data_ptr(), p.out = out.data_ptr();
  DETCORE_RUN(roi_align, p, input);
  return out;
}

// The gradient of the map, [N, C, H, W] = map_size, in grad's dtype and the map's layout.
Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, double spatial_scale,
                          int64_t out_height, int64_t out_width, int64_t sampling_ratio,
                          bool aligned, const std::vector<int64_t>& map_size, bool channels_last) {
  RoiAlignBackwardParams p{};
  const DType dtype = check_float("roi_align_backward", "grad", grad);
  check_float("roi_align_backward", "boxes", rois);
  check_same_device("roi_align_backward", "grad", grad, "boxes", rois);
  bool possible = map_size.size() == 4;
  for (int64_t size : map_size) possible = possible && size >= 0;
  if (!possible)
    fail("roi_align_backward: map_size must be [N, C, H, W], got ", shape_of(map_size));
  p.forward = check("roi_align_backward", map_size, rois,
                    {out_height, out_width, spatial_scale, sampling_ratio, aligned});
  check_grad("roi_align_backward", grad, {p.forward.n, p.forward.channels, out_height, out_width},
             rois);
  p.forward.dtype = dtype;
  p.forward.channels_last = channels_last;
  const Tensor g =
      torch::stable::contiguous(grad, channels_last ? torch::headeronly::MemoryFormat::ChannelsLast
                                                    : torch::headeronly::MemoryFormat::Contiguous);
  const Tensor r = kernel_rois("roi_align_backward", rois, p.forward);
  Tensor out = allocate(map_size, scalar_of(result_of(dtype)), grad, channels_last);
  p.forward.rois = r.data_ptr(), p.grad_out = g.data_ptr(), p.grad_input = out.data_ptr();
  DETCORE_RUN(roi_align_backward, p, grad);
  return as_dtype(out, grad.scalar_type());
}

DETCORE_OP(roi_align,
           "(Tensor input, Tensor rois, float spatial_scale, SymInt out_height, SymInt out_width, "
           "int sampling_ratio, bool aligned) -> Tensor");
DETCORE_OP(roi_align_backward,
           "(Tensor grad, Tensor rois, float spatial_scale, SymInt out_height, SymInt out_width, "
           "int sampling_ratio, bool aligned, SymInt[] map_size, bool channels_last) -> Tensor");

}  // namespace
}  // namespace detcore
