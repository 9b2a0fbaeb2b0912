// nms and batched_nms, which differ only in the class ids.
#include "detcore/nms.h"

#include <cstring>

#include "binding.h"
#include "detcore/cuda_device.h"

namespace detcore {
namespace {

// The kernel writes to scratch memory, and the result is copied once its size is known.
Tensor keep_on_cpu(NmsParams& p, const Tensor& boxes) {
  const int64_t scratch = int64_t(nms_workspace_cpu(p));
  Tensor workspace = allocate({scratch + p.n * 8}, ScalarType::Byte, boxes);
  int64_t count = 0;
  p.workspace = data(workspace);
  p.keep = reinterpret_cast<int64_t*>(static_cast<char*>(p.workspace) + scratch);
  p.count = &count;
  check_status("nms", nms_cpu(p, torch_threads()));
  Tensor keep = allocate({count}, ScalarType::Long, boxes);
  if (count) memcpy(data(keep), p.keep, count * sizeof(int64_t));
  return keep;
}

#if defined(DETCORE_WITH_CUDA)
// Returns indices by descending score; equal scores keep their order.
Tensor order_by_score(const Tensor& scores) {
  std::array<StableIValue, 4> stack{
      torch::stable::detail::from(scores), torch::stable::detail::from(std::optional<bool>(true)),
      torch::stable::detail::from(int64_t(-1)), torch::stable::detail::from(true)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);  // the sorted scores, not needed
  return torch::stable::detail::to<Tensor>(stack[1]);
}

Tensor keep_on_cuda(NmsParams& p, const Tensor& boxes, const Tensor& scores) {
  const std::optional<Tensor> order =
      nms_needs_order_cuda(p) ? std::optional<Tensor>(order_by_score(scores)) : std::nullopt;
  Tensor workspace = allocate({int64_t(nms_workspace_cuda(p))}, ScalarType::Byte, boxes);
  Tensor keep = allocate({p.n}, ScalarType::Long, boxes);
  Tensor device_count = allocate({1}, ScalarType::Long, boxes);
  p.order = order ? data<const int64_t>(*order) : nullptr;
  p.workspace = data(workspace);
  p.keep = data<int64_t>(keep);
  p.count = data<int64_t>(device_count);
  int64_t count = 0;
  run_on(
      "nms", boxes, [] { return Status{}; },
      [&](Stream stream) {
        Status status = nms_cuda(p, stream);
        // the only host-device sync: the count is the size of the result
        return status ? copy_to_host(&count, p.count, sizeof count, stream) : status;
      });
  return torch::stable::narrow(keep, 0, 0, count);
}
#else
Tensor keep_on_cuda(NmsParams&, const Tensor&, const Tensor&) {
  throw std::runtime_error("nms: this build of detcore has no CUDA kernels");
}
#endif

Tensor suppress(const char* op, const Tensor& boxes, const Tensor& scores,
                const std::optional<Tensor>& idxs, double iou_threshold) {
  check_rows(op, "boxes", boxes, 4);
  const int64_t n = boxes.size(0);
  if (scores.dim() != 1 || scores.size(0) != n)
    fail(op, ": scores must be [", n, "], one per box, got ", shape_of(scores));
  NmsParams p{};
  p.boxes_dtype = check_float(op, "boxes", boxes);
  p.scores_dtype = check_float(op, "scores", scores);
  check_same_device(op, "boxes", boxes, "scores", scores);
  if (idxs) {
    if (idxs->dim() != 1 || idxs->size(0) != n)
      fail(op, ": idxs must be [", n, "], one per box, got ", shape_of(*idxs));
    if (idxs->scalar_type() != ScalarType::Long)
      fail(op, ": idxs must be int64, got ", dtype_of(*idxs));
    check_same_device(op, "boxes", boxes, "idxs", *idxs);
  }
  if (!(iou_threshold >= 0)) fail(op, ": iou_threshold must be at least 0, got ", iou_threshold);
  if (n == 0) return allocate({0}, ScalarType::Long, boxes);

  const Tensor b = dense(boxes), s = dense(scores);
  const std::optional<Tensor> i = idxs ? std::optional<Tensor>(dense(*idxs)) : std::nullopt;
  p.boxes = data(b), p.scores = data(s);
  p.ids = i ? data<const int64_t>(*i) : nullptr;
  p.n = n, p.iou_threshold = iou_threshold;
  return on_cuda(boxes) ? keep_on_cuda(p, b, s) : keep_on_cpu(p, b);
}

Tensor nms(const Tensor& boxes, const Tensor& scores, double iou_threshold) {
  return suppress("nms", boxes, scores, std::nullopt, iou_threshold);
}

Tensor batched_nms(const Tensor& boxes, const Tensor& scores, const Tensor& idxs,
                   double iou_threshold) {
  return suppress("batched_nms", boxes, scores, idxs, iou_threshold);
}

DETCORE_OP(nms, "(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor");
DETCORE_OP(batched_nms,
           "(Tensor boxes, Tensor scores, Tensor idxs, float iou_threshold) -> Tensor");

}  // namespace
}  // namespace detcore
