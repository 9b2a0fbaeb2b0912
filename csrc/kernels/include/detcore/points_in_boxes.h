// points_in_boxes: which box each point is in, and how many points are in each box.
//
// box_of_point[b, i] = lowest j such that box j holds point i, -1 if none does
// points_of_box[b, j] = number of points that box j holds, also those that a lower box holds too
//
// A point on the border is inside (holds() of box3d.h, in double for all dtypes). Boxes without
// positive sides, and boxes and points with a number that is not finite, take no part. The same on
// every device and number of threads.
#pragma once

#include "detcore/box3d.h"
#include "detcore/core.h"

namespace detcore {

struct PointsInBoxesParams {
  const void* points;  // [batch, p, 3]
  const void* boxes;   // [batch, n, 7] x, y, z, dx, dy, dz, yaw (box3d.h)
  int64_t batch, p, n;
  DType dtype;             // of both
  void* workspace;         // points_in_boxes_workspace_*() bytes, 64-byte aligned
  int64_t* box_of_point;   // [batch, p] out
  int64_t* points_of_box;  // [batch, n] out
};

// The extent of the boxes is cut into 512 strips along x, and along y. Each strip has one bit per
// box: whether the box reaches into it. A point looks at the boxes that are in the strips of both
// of its coordinates. Time O(p * n / 64) and what those boxes cost, memory O(n).
size_t points_in_boxes_workspace_cpu(const PointsInBoxesParams&);
Status points_in_boxes_cpu(const PointsInBoxesParams&, const Executor&);

// Two launches: measure all boxes, and clear the counts; then one thread per point, in blocks of
// 256. The block goes through the boxes by tiles of 64 in shared memory. A warp looks closer at a
// box if the circle around it holds some of its points. Counts are atomics on integers, one per
// warp and box that holds some point. Memory traffic: points read once, and 56 bytes (f64: 96) per
// box and block. Limited by arithmetic: seven operations per pair.
size_t points_in_boxes_workspace_cuda(const PointsInBoxesParams&);
Status points_in_boxes_cuda(const PointsInBoxesParams&, Stream);

}  // namespace detcore
