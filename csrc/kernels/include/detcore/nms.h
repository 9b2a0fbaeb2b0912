// nms and batched_nms: greedy non-maximum suppression, within classes where class ids are given.
//
// Boxes are taken by descending score, ties by ascending index. A box is kept unless a kept box of
// its class overlaps it with double(inter / union) > iou_threshold, inter and union in the
// arithmetic of box.h, uncontracted: torchvision's rule to the bit. A NaN score or a NaN coordinate
// is never kept and suppresses nothing; boxes without positive width and height overlap nothing;
// +0 and -0 scores tie. Deterministic on every device and number of threads.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct NmsParams {
  const void* boxes;     // [n, 4] xyxy, pixels
  const void* scores;    // [n]; CUDA with an order only asks whether one is NaN
  const int64_t* order;  // CUDA: [n] indices by descending score, stable; null: the kernel sorts,
                         // unless nms_needs_order_cuda(). CPU: unused
  const int64_t* ids;    // [n] class ids, any values; null: one class
  int64_t n;
  DType boxes_dtype, scores_dtype;
  double iou_threshold;  // >= 0
  void* workspace;       // nms_workspace_*() bytes, 64-byte aligned
  int64_t* keep;         // [n] out: indices kept, by descending score; the rest is unspecified
  int64_t* count;        // [1] out: how many (device memory on CUDA)
};

// A radix sort of the scores, then each class's boxes against those near them: a uniform grid over
// box centres prunes, SIMD lanes test. Memory O(n), time O(n) on spread boxes. At most 2^29 boxes.
size_t nms_workspace_cpu(const NmsParams&);
Status nms_cpu(const NmsParams&, const Executor&);

// Boxes are put into a hashed grid of their corners and classes and compared with those near them;
// each is decided once the better boxes that would suppress it are. Up to 2,048 boxes (f64: 1,024):
// one launch of one block of 1,024 threads (f64: 512), in up to 62 KiB of shared memory. It sorts
// scores of up to 32 bits itself. More: a memset and six launches of blocks of 256, O(n) memory
// (about 70 bytes a box), O(n) bytes moved on spread boxes; a block takes tiles of 256 ranks in
// order and waits for better tiles alone. No sync; capturable. At most 2^31 - 1 boxes. Bound by
// latency: a box is decided one round of its block after the last box that it waits for.
bool nms_needs_order_cuda(const NmsParams&);
size_t nms_workspace_cuda(const NmsParams&);
Status nms_cuda(const NmsParams&, Stream);

}  // namespace detcore
