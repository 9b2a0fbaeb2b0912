// What nms, nms_rotated and nms_3d share: checks, workspace, and the result, whose size is known
// last.
#pragma once

#include <array>
#include <cstring>

#include "binding.h"
#include "detcore/cuda_device.h"

namespace detcore {

// The kernels of one op. P is NmsParams or NmsRotatedParams.
template <class P>
struct NmsKernels {
  size_t (*workspace_cpu)(const P&);
  Status (*cpu)(const P&, const Executor&);
#if defined(DETCORE_WITH_CUDA)
  bool (*needs_order)(const P&);
  size_t (*workspace_cuda)(const P&);
  Status (*cuda)(const P&, Stream);
#endif
};
#if defined(DETCORE_WITH_CUDA)
#define DETCORE_NMS_KERNELS(op)                                                                    \
  {op##_workspace_cpu, op##_cpu, op##_needs_order_cuda, op##_workspace_cuda, op##_cuda}
#else
#define DETCORE_NMS_KERNELS(op) {op##_workspace_cpu, op##_cpu}
#endif

// The kernel writes to scratch memory, and the result is copied once its size is known.
template <class P>
Tensor keep_on_cpu(const char* op, const NmsKernels<P>& kernels, P& p, const Tensor& boxes) {
  const int64_t scratch = int64_t(kernels.workspace_cpu(p));
  Tensor workspace = allocate({scratch + p.n * 8}, ScalarType::Byte, boxes);
  int64_t count = 0;
  p.workspace = data(workspace);
  p.keep = reinterpret_cast<int64_t*>(static_cast<char*>(p.workspace) + scratch);
  p.count = &count;
  check_status(op, kernels.cpu(p, torch_threads()));
  Tensor keep = allocate({count}, ScalarType::Long, boxes);
  if (count) memcpy(data(keep), p.keep, count * sizeof(int64_t));
  return keep;
}

#if defined(DETCORE_WITH_CUDA)
// Returns indices by descending score; equal scores keep their order.
inline Tensor order_by_score(const Tensor& scores) {
  std::array<StableIValue, 4> stack{
      torch::stable::detail::from(scores), torch::stable::detail::from(std::optional<bool>(true)),
      torch::stable::detail::from(int64_t(-1)), torch::stable::detail::from(true)};
  STABLE_TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::sort", "stable", stack.data(), TORCH_ABI_VERSION));
  torch::stable::detail::to<Tensor>(stack[0]);  // the sorted scores, not needed
  return torch::stable::detail::to<Tensor>(stack[1]);
}

template <class P>
Tensor keep_on_cuda(const char* op, const NmsKernels<P>& kernels, P& p, const Tensor& boxes,
                    const Tensor& scores) {
  const std::optional<Tensor> order =
      kernels.needs_order(p) ? std::optional<Tensor>(order_by_score(scores)) : std::nullopt;
  Tensor workspace = allocate({int64_t(kernels.workspace_cuda(p))}, ScalarType::Byte, boxes);
  Tensor keep = allocate({p.n}, ScalarType::Long, boxes);
  Tensor device_count = allocate({1}, ScalarType::Long, boxes);
  p.order = order ? data<const int64_t>(*order) : nullptr;
  p.workspace = data(workspace);
  p.keep = data<int64_t>(keep);
  p.count = data<int64_t>(device_count);
  int64_t count = 0;
  run_on(
      op, boxes, [] { return Status{}; },
      [&](Stream stream) {
        Status status = kernels.cuda(p, stream);
        // the only host-device sync: the count is the size of the result
        return status ? copy_to_host(&count, p.count, sizeof count, stream) : status;
      });
  return torch::stable::narrow(keep, 0, 0, count);
}
#else
template <class P>
Tensor keep_on_cuda(const char* op, const NmsKernels<P>&, P&, const Tensor&, const Tensor&) {
  throw std::runtime_error(std::string(op) + ": this build of detcore has no CUDA kernels");
}
#endif

// Boxes of `numbers` numbers each. `p` has what the op alone knows of.
template <class P>
Tensor suppress(const char* op, const NmsKernels<P>& kernels, int64_t numbers, const Tensor& boxes,
                const Tensor& scores, const std::optional<Tensor>& idxs, double iou_threshold,
                P p = {}) {
  check_rows(op, "boxes", boxes, numbers);
  const int64_t n = boxes.size(0);
  if (scores.dim() != 1 || scores.size(0) != n)
    fail(op, ": scores must be [", n, "], one per box, got ", shape_of(scores));
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
  return on_cuda(boxes) ? keep_on_cuda(op, kernels, p, b, s) : keep_on_cpu(op, kernels, p, b);
}

}  // namespace detcore
