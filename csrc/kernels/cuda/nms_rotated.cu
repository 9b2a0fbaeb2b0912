// nms_rotated, nms_3d, nms_bev, batched_nms_rotated, batched_nms_3d and batched_nms_bev:
// measures the boxes. The rest is nms.cu.
#include "detcore/nms_rotated.h"

#include "detcore/nms.h"
#include "launch.cuh"
#include "rotated_loads.cuh"

namespace detcore {
namespace {

constexpr int kThreads = 128;

template <class T, class G>
using Measured = typename G::template Measured<T, double>;

template <class S, class G>
__global__ void measure_kernel(NmsRotatedParams p, Box<arithmetic_t<S>>* around,
                               Measured<arithmetic_t<S>, G>* rotated) {
  const S* boxes = static_cast<const S*>(p.boxes);
  for (int64_t i = global_thread(); i < p.n; i += all_threads()) {
    const auto box = load_measured(G{}, p.kind, boxes, i);
    rotated[i] = box;
    around[i] = box_around(box);
  }
}

template <class T>
size_t measured_size(const NmsRotatedParams& p) {
  return p.kind == RotatedKind::in_space ? sizeof(Measured<T, InSpace>)
                                         : sizeof(Measured<T, InPlane>);
}

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// The workspace: upright boxes, rotated boxes, and what nms_cuda() needs.
struct Workspace {
  size_t rotated, rest;

  explicit Workspace(const NmsRotatedParams& p) {
    const bool wide = p.boxes_dtype == DType::f64;
    rotated = aligned(p.n * (wide ? sizeof(Box<double>) : sizeof(Box<float>)));
    rest = rotated + aligned(p.n * (wide ? measured_size<double>(p) : measured_size<float>(p)));
  }
};

NmsParams upright(const NmsRotatedParams& p) {
  const Workspace w(p);
  char* memory = static_cast<char*>(p.workspace);
  NmsParams q{};
  q.boxes = memory, q.rotated = memory + w.rotated, q.workspace = memory + w.rest;
  q.scores = p.scores, q.order = p.order, q.ids = p.ids, q.n = p.n;
  q.boxes_dtype = p.boxes_dtype == DType::f64 ? DType::f64 : DType::f32;
  q.scores_dtype = p.scores_dtype, q.iou_threshold = p.iou_threshold;
  q.keep = p.keep, q.count = p.count, q.in_space = p.kind == RotatedKind::in_space;
  return q;
}

}  // namespace

bool nms_rotated_needs_order_cuda(const NmsRotatedParams& p) {
  return nms_needs_order_cuda(upright(p));
}
size_t nms_rotated_workspace_cuda(const NmsRotatedParams& p) {
  return Workspace(p).rest + nms_workspace_cuda(upright(p));
}

Status nms_rotated_cuda(const NmsRotatedParams& p, Stream stream) {
  const NmsParams q = upright(p);
  const Status measured = with_geometry(p.kind, [&](auto geometry) {
    return with_storage(p.boxes_dtype, [&](auto storage) {
      using S = decltype(storage);
      using G = decltype(geometry);
      using T = arithmetic_t<S>;
      auto* around = static_cast<Box<T>*>(const_cast<void*>(q.boxes));
      auto* rotated = static_cast<Measured<T, G>*>(const_cast<void*>(q.rotated));
      return launch(measure_kernel<S, G>, {blocks_for(p.n, kThreads), kThreads}, stream, p, around,
                    rotated);
    });
  });
  return measured ? nms_cuda(q, stream) : measured;
}

}  // namespace detcore
