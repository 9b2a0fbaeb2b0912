#include "detcore/soft_nms.h"

#include <cstring>

#include "binding.h"
#include "detcore/cuda_device.h"

namespace detcore {
namespace {

using Selection = std::tuple<Tensor, Tensor>;

// The kernel writes to scratch memory, and the results are copied once their size is known.
Selection select_on_cpu(SoftNmsParams& p, const Tensor& boxes, const Tensor& scores) {
  const int64_t scratch = int64_t(soft_nms_workspace_cpu(p));
  Tensor workspace = allocate({scratch + p.n * 16}, ScalarType::Byte, boxes);
  int64_t count = 0;
  p.workspace = data(workspace);
  p.keep = reinterpret_cast<int64_t*>(static_cast<char*>(p.workspace) + scratch);
  p.decayed = p.keep + p.n;
  p.count = &count;
  check_status("soft_nms", soft_nms_cpu(p, torch_threads()));
  Tensor keep = allocate({count}, ScalarType::Long, boxes);
  Tensor decayed = allocate({count}, scores.scalar_type(), boxes);
  if (count) {
    memcpy(data(keep), p.keep, count * sizeof(int64_t));
    memcpy(data(decayed), p.decayed, count * size_of(p.scores_dtype));
  }
  return {keep, decayed};
}

#if defined(DETCORE_WITH_CUDA)
Selection select_on_cuda(SoftNmsParams& p, const Tensor& boxes, const Tensor& scores) {
  Tensor workspace = allocate({int64_t(soft_nms_workspace_cuda(p))}, ScalarType::Byte, boxes);
  Tensor keep = allocate({p.n}, ScalarType::Long, boxes);
  Tensor decayed = allocate({p.n}, scores.scalar_type(), boxes);
  Tensor device_count = allocate({1}, ScalarType::Long, boxes);
  p.workspace = data(workspace);
  p.keep = data<int64_t>(keep);
  p.decayed = data(decayed);
  p.count = data<int64_t>(device_count);
  int64_t count = 0;
  run_on(
      "soft_nms", boxes, [] { return Status{}; },
      [&](Stream stream) {
        Status status = soft_nms_cuda(p, stream);
        // the only host-device sync: the count is the size of the results
        return status ? copy_to_host(&count, p.count, sizeof count, stream) : status;
      });
  return {torch::stable::narrow(keep, 0, 0, count), torch::stable::narrow(decayed, 0, 0, count)};
}
#else
Selection select_on_cuda(SoftNmsParams&, const Tensor&, const Tensor&) {
  throw std::runtime_error("soft_nms: this build of detcore has no CUDA kernels");
}
#endif

// Returns indices and decayed scores [K], in order of selection.
Selection soft_nms(const Tensor& boxes, const Tensor& scores, double iou_threshold, double sigma,
                   double min_score, const std::string& method) {
  const char* op = "soft_nms";
  check_rows(op, "boxes", boxes, 4);
  SoftNmsParams p{};
  p.n = boxes.size(0);
  if (scores.dim() != 1 || scores.size(0) != p.n)
    fail(op, ": scores must be [", p.n, "], one per box, got ", shape_of(scores));
  p.boxes_dtype = check_float(op, "boxes", boxes);
  p.scores_dtype = check_float(op, "scores", scores);
  check_same_device(op, "boxes", boxes, "scores", scores);
  p.method = SoftNmsMethod(check_choice(op, "method", method, {"linear", "gaussian"}));
  if (!(iou_threshold >= 0)) fail(op, ": iou_threshold must be at least 0, got ", iou_threshold);
  if (!(sigma > 0)) fail(op, ": sigma must be positive, got ", sigma);
  if (!(min_score >= 0)) fail(op, ": min_score must be at least 0, got ", min_score);
  p.iou_threshold = iou_threshold, p.sigma = sigma, p.min_score = min_score;
  if (p.n == 0)
    return {allocate({0}, ScalarType::Long, boxes), allocate({0}, scores.scalar_type(), boxes)};
  const Tensor b = dense(boxes), s = dense(scores);
  p.boxes = data(b), p.scores = data(s);
  return on_cuda(boxes) ? select_on_cuda(p, b, s) : select_on_cpu(p, b, s);
}

DETCORE_OP(soft_nms,
           "(Tensor boxes, Tensor scores, float iou_threshold, float sigma, float min_score, "
           "str method) -> (Tensor, Tensor)");

}  // namespace
}  // namespace detcore
