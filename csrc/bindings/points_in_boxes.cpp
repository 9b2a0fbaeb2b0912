#include "detcore/points_in_boxes.h"

#include "binding.h"

namespace detcore {
namespace {

constexpr const char* kPointsInBoxes = "points_in_boxes";

// The sizes before the last one.
Sizes leading_sizes(const Tensor& x) {
  Sizes sizes = sizes_of(x);
  sizes.pop_back();
  return sizes;
}

// Returns box_of_point [..., P] and points_of_box [..., N].
std::tuple<Tensor, Tensor> points_in_boxes(const Tensor& points, const Tensor& boxes) {
  check_last(kPointsInBoxes, "points", points, 3);
  check_last(kPointsInBoxes, "boxes", boxes, 7);
  if (points.dim() < 2)
    fail(kPointsInBoxes, ": points must be [..., P, 3], got ", shape_of(points));
  if (boxes.dim() < 2) fail(kPointsInBoxes, ": boxes must be [..., N, 7], got ", shape_of(boxes));
  const Sizes per_point = leading_sizes(points), per_box = leading_sizes(boxes);
  if (Sizes(per_point.begin(), per_point.end() - 1) != Sizes(per_box.begin(), per_box.end() - 1))
    fail(kPointsInBoxes, ": points and boxes must have the same leading dimensions, got ",
         shape_of(points), " and ", shape_of(boxes));
  PointsInBoxesParams p{};
  p.dtype = check_float(kPointsInBoxes, "points", points);
  check_same_dtype(kPointsInBoxes, "points", points, "boxes", boxes);
  check_same_device(kPointsInBoxes, "points", points, "boxes", boxes);
  p.batch = 1, p.p = per_point.back(), p.n = per_box.back();
  for (size_t d = 0; d + 1 < per_point.size(); ++d) p.batch *= per_point[d];

  const Tensor from = dense(points), in = dense(boxes);
  std::tuple<Tensor, Tensor> out{allocate(per_point, ScalarType::Long, points),
                                 allocate(per_box, ScalarType::Long, points)};
  p.points = data(from), p.boxes = data(in);
  p.box_of_point = data<int64_t>(std::get<0>(out));
  p.points_of_box = data<int64_t>(std::get<1>(out));
  size_t bytes = points_in_boxes_workspace_cpu(p);
#if defined(DETCORE_WITH_CUDA)
  if (on_cuda(points)) bytes = points_in_boxes_workspace_cuda(p);
#endif
  Tensor workspace = allocate({int64_t(bytes)}, ScalarType::Byte, points);
  p.workspace = data(workspace);
  DETCORE_RUN(points_in_boxes, p, points);
  return out;
}

DETCORE_OP(points_in_boxes, "(Tensor points, Tensor boxes) -> (Tensor, Tensor)");

}  // namespace
}  // namespace detcore
