// nms and batched_nms: greedy non-maximum suppression, within each class if class ids are given.
//
// Boxes are visited by descending score, ties by ascending index. A box is kept unless a kept box
// of its class overlaps it with double(inter / union) > iou_threshold. inter and union are computed
// as in box.h, without fused multiply-adds, which gives the same decisions as torchvision. A box
// with a NaN score or coordinate is never kept and suppresses nothing; boxes without positive width
// and height overlap nothing; scores of +0 and -0 are equal. Deterministic on every device and
// number of threads.
#pragma once

#include "detcore/box.h"
#include "detcore/core.h"

namespace detcore {

struct NmsParams {
  const void* boxes;     // [n, 4] xyxy, pixels
  const void* scores;    // [n]; CUDA with an order only tests them for NaN
  const int64_t* order;  // CUDA: [n] indices by descending score, stable; null: the kernel sorts,
                         // unless nms_needs_order_cuda(). CPU: unused
  const int64_t* ids;    // [n] class ids, any values; null: one class
  const void* rotated;   // CUDA: [n] RotatedBox or Box3d, if the boxes are the upright ones around
                         // them and of f32 or f64 (nms_rotated); else null. CPU: unused
  int64_t n;
  DType boxes_dtype, scores_dtype;
  double iou_threshold;  // >= 0
  void* workspace;       // nms_workspace_*() bytes, 64-byte aligned
  int64_t* keep;         // [n] out: kept indices by descending score; the rest is unspecified
  int64_t* count;        // [1] out: number of kept boxes (device memory on CUDA)
  bool in_space;         // `rotated` are Box3d
};

// A radix sort of the scores; then each box is compared with those of its class that are near it,
// found in a uniform grid over box centres, with SIMD. Memory O(n), time O(n) if the boxes are
// spread out. At most 2^29 boxes.
size_t nms_workspace_cpu(const NmsParams&);
Status nms_cpu(const NmsParams&, const Executor&);

// Boxes are inserted into a hashed grid of their corners and classes, and compared with the boxes
// near them. Each is decided once the better boxes that would suppress it are decided
// (cuda/greedy_nms.cuh). Up to 2,048 boxes (f64: 1,024): one launch of one block of 1,024 threads
// (f64: 512), with up to 62 KiB of shared memory; it sorts scores of up to 32 bits itself. More
// boxes: a memset and six launches with blocks of 256 threads, O(n) memory (about 70 bytes per
// box), O(n) bytes moved if the boxes are spread out; a block takes tiles of 256 ranks in order and
// waits only for better tiles. No host-device sync; usable in CUDA graphs. At most 2^31 - 1 boxes.
// Limited by latency: a box is decided one round of its block after the last box that it waits for.
bool nms_needs_order_cuda(const NmsParams&);
size_t nms_workspace_cuda(const NmsParams&);
Status nms_cuda(const NmsParams&, Stream);

}  // namespace detcore
