// roi_align, and the functions it shares with multiscale_roi_align (roi_align.h).
#include "roi_align.h"

namespace detcore {

RoiAlignParams check_roi_align(const char* op, const char* name, const std::vector<RoiMap>& maps,
                               const Tensor& rois, DType dtype, const RoiSettings& settings) {
  check_regions(op, rois, settings.out_height, settings.out_width);
  for (const RoiMap& map : maps) check_scale(op, map.spatial_scale);
  constexpr int64_t most = 1 << 30;  // the kernel has 32-bit integers
  if (settings.out_height > most || settings.out_width > most || settings.sampling_ratio > most)
    fail(op, ": output_size and sampling_ratio must be at most ", most, ", got ",
         settings.out_height, " x ", settings.out_width, " and ", settings.sampling_ratio);
  RoiAlignParams p{};
  p.n = rois.size(0);
  p.level_count = int32_t(maps.size());
  p.images = maps[0].size[0], p.channels = maps[0].size[1];
  check_addressable(op, {p.n, p.channels, settings.out_height, settings.out_width});
  for (size_t l = 0; l < maps.size(); ++l) {
    const Sizes& size = maps[l].size;
    if (p.n > 0 && (size[0] == 0 || size[2] == 0 || size[3] == 0))
      fail(op, ": ", name, " must not be empty where there are boxes, got ", shape_of(size));
    p.levels[l].height = size[2], p.levels[l].width = size[3];
    p.levels[l].spatial_scale = maps[l].spatial_scale;
  }
  p.dtype = dtype;
  p.out_height = int32_t(settings.out_height), p.out_width = int32_t(settings.out_width);
  p.sampling_ratio = settings.sampling_ratio > 0 ? int32_t(settings.sampling_ratio) : -1;
  p.aligned = settings.aligned;
  return p;
}

Tensor kernel_grad(const char* op, const Tensor& grad, const Tensor& rois,
                   const RoiAlignParams& p) {
  check_grad(op, grad, {p.n, p.channels, p.out_height, p.out_width}, rois);
  return in_layout(grad, p.channels_last);
}

namespace {

// The workspace of the CPU kernels. The CUDA kernels need none.
Tensor scratch(const RoiAlignParams& p, const Tensor& where) {
  const int64_t bytes = on_cuda(where) ? 0 : int64_t(roi_align_workspace_cpu(p));
  return allocate({bytes}, ScalarType::Byte, where);
}

}  // namespace

void run_roi_align(const char* op, RoiAlignParams& p, const Tensor& where) {
  const Tensor workspace = scratch(p, where);
  p.workspace = data(workspace);
  DETCORE_RUN_AS(op, roi_align, p, where);
}

void run_roi_align_backward(const char* op, RoiAlignBackwardParams& p, const Tensor& where) {
  const Tensor workspace = scratch(p.forward, where);
  p.forward.workspace = data(workspace);
  DETCORE_RUN_AS(op, roi_align_backward, p, where);
}

namespace {

Tensor roi_align(const Tensor& input, const Tensor& rois, double spatial_scale, int64_t out_height,
                 int64_t out_width, int64_t sampling_ratio, bool aligned) {
  if (input.dim() != 4) fail("roi_align: input must be [N, C, H, W], got ", shape_of(input));
  const DType dtype = check_float("roi_align", "input", input);
  check_float("roi_align", "boxes", rois);
  check_same_device("roi_align", "input", input, "boxes", rois);
  RoiAlignParams p = check_roi_align("roi_align", "input", {{sizes_of(input), spatial_scale}}, rois,
                                     dtype, {out_height, out_width, sampling_ratio, aligned});
  p.channels_last = is_channels_last(input);
  const Tensor map = p.channels_last ? input : dense(input);
  const Tensor r = kernel_rois("roi_align", rois, p.images, dtype);
  Tensor out = allocate({p.n, p.channels, out_height, out_width}, input.scalar_type(), input,
                        p.channels_last);
  p.levels[0].map = data(map), p.rois = data(r), p.out = data(out);
  run_roi_align("roi_align", p, input);
  return out;
}

// Returns the gradient of the map, [N, C, H, W] = map_size, in grad's dtype and the map's layout.
Tensor roi_align_backward(const Tensor& grad, const Tensor& rois, double spatial_scale,
                          int64_t out_height, int64_t out_width, int64_t sampling_ratio,
                          bool aligned, const std::vector<int64_t>& map_size, bool channels_last) {
  const char* op = "roi_align_backward";
  RoiAlignBackwardParams p{};
  const DType dtype = check_float(op, "grad", grad);
  check_float(op, "boxes", rois);
  check_same_device(op, "grad", grad, "boxes", rois);
  check_map_size(op, map_size);
  p.forward = check_roi_align(op, "input", {{map_size, spatial_scale}}, rois, dtype,
                              {out_height, out_width, sampling_ratio, aligned});
  p.forward.channels_last = channels_last;
  const Tensor g = kernel_grad(op, grad, rois, p.forward);
  const Tensor r = kernel_rois(op, rois, p.forward.images, dtype);
  Tensor out = allocate(map_size, scalar_of(result_of(dtype)), grad, channels_last);
  p.forward.rois = data(r), p.grad_out = data(g), p.grad_inputs[0] = data(out);
  run_roi_align_backward(op, p, grad);
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
