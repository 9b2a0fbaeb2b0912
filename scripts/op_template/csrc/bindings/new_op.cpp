#include "detcore/new_op.h"

#include "binding.h"

namespace detcore {
namespace {

Tensor new_op(const Tensor& boxes) {
  check_rows("new_op", "boxes", boxes, 4);
  NewOpParams p{};
  p.dtype = check_float("new_op", "boxes", boxes);
  p.n = boxes.size(0);
  const Tensor rows = dense(boxes);
  Tensor out = allocate({p.n}, scalar_of(result_of(p.dtype)), boxes);
  p.boxes = data(rows), p.out = data(out);
  DETCORE_RUN(new_op, p, boxes);
  return out;
}

DETCORE_OP(new_op, "(Tensor boxes) -> Tensor");

}  // namespace
}  // namespace detcore
