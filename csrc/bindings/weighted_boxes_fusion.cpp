#include "detcore/weighted_boxes_fusion.h"

#include "binding.h"
#include "detcore/cuda_device.h"

namespace detcore {
namespace {

constexpr const char* kOp = "weighted_boxes_fusion";

// A tensor [n] of this dtype, beside the boxes.
Tensor column(const char* name, const Tensor& t, const Tensor& boxes, ScalarType dtype) {
  const int64_t n = boxes.size(0);
  if (t.dim() != 1 || t.size(0) != n)
    fail(kOp, ": ", name, " must be [", n, "], one per box, got ", shape_of(t));
  if (t.scalar_type() != dtype)
    fail(kOp, ": ", name, " must be ", dtype == ScalarType::Long ? "int64" : "float64", ", got ",
         dtype_of(t));
  check_same_device(kOp, "boxes", boxes, name, t);
  return dense(t);
}

// Sums the weights, which are few and on the host.
void add_weights(const std::vector<double>& weights, WeightedBoxesFusionParams& p) {
  p.model_count = int64_t(weights.size());
  if (weights.empty()) fail(kOp, ": weights must be one per model, got none");
  for (double w : weights) {
    if (!(w > 0) || w - w != 0) fail(kOp, ": weights must be positive and finite, got ", w);
    p.weight_sum += w, p.most_weight = w > p.most_weight ? w : p.most_weight;
  }
}

// Reads the number of fused boxes back, which is the size of the result.
int64_t fuse(WeightedBoxesFusionParams& p, const Tensor& boxes) {
  int64_t count = 0;
  const Tensor device_count = allocate({1}, ScalarType::Long, boxes);
  p.count = data<int64_t>(device_count);
  run_on(
      kOp, boxes, [&] { return weighted_boxes_fusion_cpu(p, torch_threads()); },
      [&](Stream stream) {
#if defined(DETCORE_WITH_CUDA)
        const Status status = weighted_boxes_fusion_cuda(p, stream);
        return status ? copy_to_host(&count, p.count, sizeof count, stream) : status;
#else
        (void)stream;
        return Status{"this build of detcore has no CUDA kernels"};
#endif
      });
  return on_cuda(boxes) ? count : *p.count;
}

// Boxes, scores and labels of the fused boxes, by label.
std::tuple<Tensor, Tensor, Tensor> weighted_boxes_fusion(
    const Tensor& boxes, const Tensor& scores, const Tensor& weights, const Tensor& labels,
    const Tensor& models, const Tensor& order, const std::vector<double>& model_weights,
    double iou_threshold, double skip_box_threshold, const std::string& conf_type) {
  WeightedBoxesFusionParams p{};
  check_rows(kOp, "boxes", boxes, 4);
  if (boxes.scalar_type() != ScalarType::Double)
    fail(kOp, ": boxes must be float64, got ", dtype_of(boxes));
  const Tensor b = dense(boxes), s = column("scores", scores, boxes, ScalarType::Double);
  const Tensor w = column("weights", weights, boxes, ScalarType::Double);
  const Tensor l = column("labels", labels, boxes, ScalarType::Long);
  const Tensor m = column("models", models, boxes, ScalarType::Long);
  const Tensor o = column("order", order, boxes, ScalarType::Long);
  add_weights(model_weights, p);
  if (!(iou_threshold >= 0)) fail(kOp, ": iou_threshold must be at least 0, got ", iou_threshold);
  check_number(kOp, "skip_box_threshold", skip_box_threshold);
  p.kind = FusedScore(check_choice(kOp, "conf_type", conf_type,
                                   {"avg", "max", "box_and_model_avg", "absent_model_aware_avg"}));
  p.n = boxes.size(0), p.iou_threshold = iou_threshold, p.skip_threshold = skip_box_threshold;
  p.boxes = data<const double>(b), p.scores = data<const double>(s);
  p.weights = data<const double>(w), p.labels = data<const int64_t>(l);
  p.models = data<const int64_t>(m), p.order = data<const int64_t>(o);
  Tensor workspace =
      allocate({int64_t(weighted_boxes_fusion_workspace(p))}, ScalarType::Byte, boxes);
  Tensor out_boxes = allocate({p.n, 4}, ScalarType::Double, boxes);
  Tensor out_scores = allocate({p.n}, ScalarType::Double, boxes);
  Tensor out_labels = allocate({p.n}, ScalarType::Long, boxes);
  p.workspace = data(workspace), p.out_boxes = data<double>(out_boxes);
  p.out_scores = data<double>(out_scores), p.out_labels = data<int64_t>(out_labels);
  const int64_t count = fuse(p, boxes);
  const auto first = [&](Tensor& t) { return torch::stable::narrow(t, 0, 0, count); };
  return {first(out_boxes), first(out_scores), first(out_labels)};
}

DETCORE_OP(weighted_boxes_fusion,
           "(Tensor boxes, Tensor scores, Tensor weights, Tensor labels, Tensor models, "
           "Tensor order, float[] model_weights, float iou_threshold, "
           "float skip_box_threshold, str conf_type) -> (Tensor, Tensor, Tensor)");

}  // namespace
}  // namespace detcore
