// multiscale_roi_align: roi_align of several maps, where the size of an ROI selects its level. It
// uses the kernels of roi_align.
#include "detcore/roi_levels.h"
#include "roi_align.h"

namespace detcore {
namespace {

// Sets the least area of each level of `p`. This is torchvision's LevelMapper if scales halve from
// level to level; if a level is missing, its boxes go to the next finer level.
void choose_levels(const char* op, RoiAlignParams& p, double canonical_scale,
                   int64_t canonical_level) {
  if (!(canonical_scale > 0)) fail(op, ": canonical_scale must be positive, got ", canonical_scale);
  for (int l = 0; l < p.level_count; ++l)
    if (!std::isfinite(p.levels[l].spatial_scale))
      fail(op, ": scales must be finite, got ", p.levels[l].spatial_scale);
  const auto level = [&](int l) { return int64_t(-std::log2(p.levels[l].spatial_scale)); };
  for (int l = 1; l < p.level_count; ++l) {
    const int64_t k = level(l);
    if (k <= level(l - 1))
      fail(op, ": scales must fall by half or more from feature to feature, got ",
           p.levels[l - 1].spatial_scale, " before ", p.levels[l].spatial_scale);
    p.levels[l].area_from = p.dtype == DType::f64
                                ? level_from<double>(k, canonical_scale, canonical_level)
                                : level_from<float>(k, canonical_scale, canonical_level);
  }
}

std::vector<RoiMap> maps_of(const char* op, const std::vector<Sizes>& sizes,
                            const std::vector<double>& scales) {
  if (sizes.empty() || sizes.size() > size_t(kMostLevels))
    fail(op, ": features must be 1 to ", int64_t(kMostLevels), " maps, got ",
         int64_t(sizes.size()));
  if (scales.size() != sizes.size())
    fail(op, ": scales must be one per feature, ", int64_t(sizes.size()), " of them, got ",
         int64_t(scales.size()));
  std::vector<RoiMap> maps;
  for (size_t l = 0; l < sizes.size(); ++l) {
    if (sizes[l][0] != sizes[0][0] || sizes[l][1] != sizes[0][1])
      fail(op, ": features must have one batch and channels, got ", shape_of(sizes[0]), " and ",
           shape_of(sizes[l]));
    maps.push_back({sizes[l], scales[l]});
  }
  return maps;
}

Tensor multiscale_roi_align(const std::vector<Tensor>& features, const Tensor& rois,
                            const std::vector<double>& scales, int64_t out_height,
                            int64_t out_width, int64_t sampling_ratio, bool aligned,
                            double canonical_scale, int64_t canonical_level) {
  const char* op = "multiscale_roi_align";
  std::vector<Sizes> sizes;
  bool channels_last = false, planar = false;
  for (const Tensor& f : features) {
    if (f.dim() != 4) fail(op, ": features must be [N, C, H, W], got ", shape_of(f));
    check_float(op, "features", f);
    check_same_dtype(op, "features", features[0], "features", f);
    check_same_device(op, "features", f, "boxes", rois);
    sizes.push_back(sizes_of(f));
    channels_last = channels_last || is_channels_last(f);
    planar = planar || !could_be_channels_last(f);
  }
  const std::vector<RoiMap> maps = maps_of(op, sizes, scales);
  check_float(op, "boxes", rois);
  RoiAlignParams p =
      check_roi_align(op, "features", maps, rois, check_float(op, "features", features[0]),
                      {out_height, out_width, sampling_ratio, aligned});
  choose_levels(op, p, canonical_scale, canonical_level);
  p.channels_last = channels_last && !planar;
  const Tensor r = kernel_rois(op, rois, p.images, p.dtype);
  std::vector<Tensor> held;
  for (int l = 0; l < p.level_count; ++l) {
    held.push_back(p.channels_last ? features[l] : dense(features[l]));
    p.levels[l].map = data(held[l]);
  }
  Tensor out = allocate({p.n, p.channels, out_height, out_width}, features[0].scalar_type(),
                        features[0], p.channels_last);
  p.rois = data(r), p.out = data(out);
  run_roi_align(op, p, features[0]);
  return out;
}

// Returns the gradients of the maps, in grad's dtype. map_sizes: height 0, width 0, height 1, width
// 1, ...
std::vector<Tensor> multiscale_roi_align_backward(
    const Tensor& grad, const Tensor& rois, const std::vector<double>& scales, int64_t out_height,
    int64_t out_width, int64_t sampling_ratio, bool aligned, double canonical_scale,
    int64_t canonical_level, int64_t images, const std::vector<int64_t>& map_sizes,
    bool channels_last) {
  const char* op = "multiscale_roi_align_backward";
  const DType dtype = check_float(op, "grad", grad);
  if (grad.dim() != 4) fail(op, ": grad must be [K, C, H, W], got ", shape_of(grad));
  check_float(op, "boxes", rois);
  check_same_device(op, "grad", grad, "boxes", rois);
  bool possible = images >= 0 && map_sizes.size() % 2 == 0;
  for (int64_t size : map_sizes) possible = possible && size >= 0;
  if (!possible) fail(op, ": map_sizes must be pairs of sizes, got ", shape_of(map_sizes));
  std::vector<Sizes> sizes;
  for (size_t l = 0; l + 1 < map_sizes.size(); l += 2)
    sizes.push_back({images, grad.size(1), map_sizes[l], map_sizes[l + 1]});
  RoiAlignBackwardParams p{};
  p.forward = check_roi_align(op, "features", maps_of(op, sizes, scales), rois, dtype,
                              {out_height, out_width, sampling_ratio, aligned});
  choose_levels(op, p.forward, canonical_scale, canonical_level);
  p.forward.channels_last = channels_last;
  const Tensor g = kernel_grad(op, grad, rois, p.forward);
  const Tensor r = kernel_rois(op, rois, p.forward.images, dtype);
  std::vector<Tensor> out;
  for (const Sizes& size : sizes) {
    out.push_back(allocate(size, scalar_of(result_of(dtype)), grad, channels_last));
    p.grad_inputs[out.size() - 1] = data(out.back());
  }
  p.forward.rois = data(r), p.grad_out = data(g);
  run_roi_align_backward(op, p, grad);
  for (Tensor& t : out) t = as_dtype(t, grad.scalar_type());
  return out;
}

DETCORE_OP(multiscale_roi_align,
           "(Tensor[] features, Tensor rois, float[] scales, SymInt out_height, SymInt out_width, "
           "int sampling_ratio, bool aligned, float canonical_scale, int canonical_level) -> "
           "Tensor");
DETCORE_OP(multiscale_roi_align_backward,
           "(Tensor grad, Tensor rois, float[] scales, SymInt out_height, SymInt out_width, int "
           "sampling_ratio, bool aligned, float canonical_scale, int canonical_level, SymInt "
           "images, SymInt[] map_sizes, bool channels_last) -> Tensor[]");

}  // namespace
}  // namespace detcore
