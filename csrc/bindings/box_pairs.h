// The checks of ops that compare all pairs of two sets of boxes.
#pragma once

#include "binding.h"

namespace detcore {

struct BoxPairs {
  int64_t batch, n, m;
  DType dtype;
  Sizes out;  // [..., N, M]
};

// The sets must be [..., N, width] and [..., M, width], with the same leading dimensions.
inline BoxPairs check_pairs(const char* op, const Tensor& boxes1, const Tensor& boxes2,
                            int64_t width) {
  check_last(op, "boxes1", boxes1, width);
  check_last(op, "boxes2", boxes2, width);
  if (boxes1.dim() < 2) fail(op, ": boxes1 must be [..., N, ", width, "], got ", shape_of(boxes1));
  if (boxes2.dim() < 2) fail(op, ": boxes2 must be [..., M, ", width, "], got ", shape_of(boxes2));
  const Sizes a = sizes_of(boxes1), b = sizes_of(boxes2);
  if (Sizes(a.begin(), a.end() - 2) != Sizes(b.begin(), b.end() - 2))
    fail(op, ": boxes1 and boxes2 must have the same leading dimensions, got ", shape_of(boxes1),
         " and ", shape_of(boxes2));
  BoxPairs pairs{1, a[a.size() - 2], b[b.size() - 2], check_float(op, "boxes1", boxes1), a};
  check_same_dtype(op, "boxes1", boxes1, "boxes2", boxes2);
  check_same_device(op, "boxes1", boxes1, "boxes2", boxes2);
  for (size_t d = 0; d + 2 < a.size(); ++d) pairs.batch *= a[d];
  pairs.out.back() = pairs.m;
  return pairs;
}

inline bool share_memory(const Tensor& a, const Tensor& b) {
  const size_t a_bytes = a.numel() * a.element_size(), b_bytes = b.numel() * b.element_size();
  const char* a0 = data<const char>(a);
  const char* b0 = data<const char>(b);
  return a_bytes && b_bytes && a0 < b0 + b_bytes && b0 < a0 + a_bytes;
}

// A tensor of the caller's to write the result into. The boxes are contiguous.
inline void check_out(const char* op, const Tensor& out, const BoxPairs& pairs,
                      const Tensor& boxes1, const Tensor& boxes2) {
  if (sizes_of(out) != pairs.out || !out.is_contiguous())
    fail(op, ": out must be a contiguous ", shape_of(pairs.out), ", got ", shape_of(out),
         out.is_contiguous() ? "" : ", not contiguous");
  if (out.scalar_type() != scalar_of(result_of(pairs.dtype)))
    fail(op, ": out must be ", pairs.dtype == DType::f64 ? "float64" : "float32", ", got ",
         dtype_of(out));
  check_same_device(op, "boxes1", boxes1, "out", out);
  if (share_memory(out, boxes1) || share_memory(out, boxes2))
    fail(op, ": out must not share memory with the boxes");
}

}  // namespace detcore
