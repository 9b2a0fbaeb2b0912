// TODO: what the op computes; results for ties, NaN and empty inputs; whether it is deterministic.
#pragma once

#include "detcore/core.h"

namespace detcore {

struct NewOpParams {
  const void* boxes;  // [n, 4] xyxy, pixels
  void* out;          // [n], f64 for f64 boxes, else f32
  int64_t n;
  DType dtype;  // of the boxes
};

Status new_op_cpu(const NewOpParams&, const Executor&);
// TODO: bytes moved, launches.
Status new_op_cuda(const NewOpParams&, Stream);

}  // namespace detcore
