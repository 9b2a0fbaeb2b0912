#include "detcore/multiclass_nms.h"

#include "binding.h"

namespace detcore {
namespace {

// Sets the strides for boxes [B, N, 4 or 5], which all classes share, or [B, N, C, 4 or 5].
Tensor kernel_boxes(const Tensor& boxes, MulticlassNmsParams& p) {
  const int64_t last = boxes.dim() - 1;
  Tensor b = boxes.stride(last) == 1 ? boxes : dense(boxes);
  p.boxes = data(b);
  for (int64_t i = 0; i < 3; ++i) p.box_strides[i] = i < last ? b.stride(i) : 0;
  return b;
}

Tensor kernel_scores(const Tensor& scores, MulticlassNmsParams& p) {
  const bool in_rows = scores.stride(1) == 1 || scores.stride(2) == 1;
  Tensor s = in_rows ? scores : dense(scores);
  p.scores = data(s);
  for (int64_t i = 0; i < 3; ++i) p.score_strides[i] = s.stride(i);
  return s;
}

void check(const char* op, const Tensor& boxes, const Tensor& scores, MulticlassNmsParams& p) {
  const int64_t dims = boxes.dim();
  p.rotated = (dims == 3 || dims == 4) && boxes.size(dims - 1) == 5;
  if ((dims != 3 && dims != 4) || (boxes.size(dims - 1) != 4 && !p.rotated))
    fail(op, ": boxes must be [B, N, 4] or [B, N, C, 4], got ", shape_of(boxes));
  p.batch = boxes.size(0), p.n = boxes.size(1);
  const bool fits = scores.dim() == 3 && scores.size(0) == p.batch && scores.size(1) == p.n;
  if (!fits || (dims == 4 && scores.size(2) != boxes.size(2)))
    fail(op, ": scores must be [", p.batch, ", ", p.n, ", ",
         dims == 4 ? text(boxes.size(2)) : text("C"), "], got ", shape_of(scores));
  p.classes = scores.size(2);
  p.boxes_dtype = check_float(op, "boxes", boxes);
  p.scores_dtype = check_float(op, "scores", scores);
  check_same_device(op, "boxes", boxes, "scores", scores);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> multiclass_nms(const Tensor& boxes, const Tensor& scores,
                                                          double score_threshold,
                                                          double iou_threshold,
                                                          int64_t candidates_per_class,
                                                          int64_t max_per_image) {
  const char* op = "multiclass_nms";
  MulticlassNmsParams p{};
  check(op, boxes, scores, p);
  check_number(op, "score_threshold", score_threshold);
  if (!(iou_threshold >= 0)) fail(op, ": iou_threshold must be at least 0, got ", iou_threshold);
  if (candidates_per_class < 1)
    fail(op, ": candidates_per_class must be at least 1, got ", candidates_per_class);
  if (max_per_image < 1) fail(op, ": max_per_image must be at least 1, got ", max_per_image);
  p.score_threshold = score_threshold, p.iou_threshold = iou_threshold;
  p.candidates_per_class = candidates_per_class, p.max_per_image = max_per_image;
  // kernels of rotated boxes compare half precision as float32, which holds all of its values
  const ScalarType storage = p.rotated ? scalar_of(result_of(p.boxes_dtype)) : boxes.scalar_type();
  if (p.rotated) p.boxes_dtype = result_of(p.boxes_dtype);
  const Tensor b = kernel_boxes(as_dtype(boxes, storage), p), s = kernel_scores(scores, p);

  Tensor out_boxes = allocate({p.batch, max_per_image, p.rotated ? 5 : 4}, storage, boxes);
  Tensor out_scores = allocate({p.batch, max_per_image}, scores.scalar_type(), boxes);
  Tensor labels = allocate({p.batch, max_per_image}, ScalarType::Long, boxes);
  Tensor counts = allocate({p.batch}, ScalarType::Long, boxes);
  p.out_boxes = data(out_boxes), p.out_scores = data(out_scores);
  p.out_labels = data<int64_t>(labels);
  p.out_counts = data<int64_t>(counts);
  size_t bytes = 0;
  if (!on_cuda(boxes)) bytes = multiclass_nms_workspace_cpu(p);
#if defined(DETCORE_WITH_CUDA)
  if (on_cuda(boxes)) bytes = multiclass_nms_workspace_cuda(p);
#endif
  Tensor workspace = allocate({int64_t(bytes)}, ScalarType::Byte, boxes);
  p.workspace = data(workspace);
  DETCORE_RUN(multiclass_nms, p, boxes);
  return {as_dtype(out_boxes, boxes.scalar_type()), out_scores, labels, counts};
}

DETCORE_OP(
    multiclass_nms,
    "(Tensor boxes, Tensor scores, float score_threshold, float iou_threshold, "
    "SymInt candidates_per_class, SymInt max_per_image) -> (Tensor, Tensor, Tensor, Tensor)");

}  // namespace
}  // namespace detcore
