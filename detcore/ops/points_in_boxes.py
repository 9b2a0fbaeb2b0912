"""Which points of a cloud are in which boxes."""

from typing import NamedTuple

import torch
from torch import Tensor

from ._derivatives import batched_by_leading_dims, not_differentiable
from ._dtypes import one_dtype
from ._fake import one_device
from ._route import bind, numpy_too

_points_in_boxes = bind("points_in_boxes")


class PointsInBoxes(NamedTuple):
    """The result of `points_in_boxes`: a named tuple of two tensors.

    Attributes:
        box_of_point: int64 [..., P], the lowest index of a box that holds the point; -1 if none
            does.
        points_of_box: int64 [..., N], how many points the box holds.
    """

    box_of_point: Tensor
    points_of_box: Tensor


@numpy_too
def points_in_boxes(points: Tensor, boxes: Tensor) -> PointsInBoxes:
    """The box of each point, and the number of points in each box.

    Args:
        points: [..., P, 3] x, y, z, any real dtype.
        boxes: [..., N, 7] x, y, z, dx, dy, dz, yaw, as in `box3d_iou`, any real dtype, with the
            same leading dimensions.

    Returns:
        `PointsInBoxes`: box_of_point, int64 [..., P], the lowest index of a box that holds the
        point, -1 if none does; and points_of_box, int64 [..., N]. A box counts all points in it,
        also those whose lowest box is another. Nothing has a gradient.

    Raises:
        ValueError: for a wrong shape, dtype or device.

    Edge cases:
        Points on the border are inside. Sides are compared in float64 for all dtypes, so that a
        cloud far from the origin loses no digits. A box with a side that is not positive, and boxes
        and points with a number that is not finite, take no part.

    Cost:
        The [P, N] matrix never exists: memory O(P + N). On the CPU two lookups find the few boxes
        near a point. Deterministic on every device and number of threads; no host-device sync.

    Equivalents:
        mmcv.ops.points_in_boxes_part and OpenPCDet's roiaware_pool3d_utils.points_in_boxes_gpu give
        box_of_point, of boxes [B, N, 7]; mmcv's z is that of the bottom: see `box3d_convert`.
        mmcv.ops.points_in_boxes_all gives the matrix.

    Example:
        >>> import torch
        >>> from detcore.ops import points_in_boxes
        >>> points = torch.tensor([[10., 5, 1], [12, 6, 2], [10, 7, 1]])
        >>> boxes = torch.tensor([[10., 5, 1, 4, 2, 2, 0], [10, 5, 1, 4, 2, 2, torch.pi / 2]])
        >>> found = points_in_boxes(points, boxes)
        >>> found.box_of_point, found.points_of_box
        (tensor([0, 0, 1]), tensor([2, 2]))

    See Also:
        `box3d_iou`, `box3d_convert`.
    """
    if points.dtype != boxes.dtype or not points.is_floating_point():
        points, boxes, _ = one_dtype("points_in_boxes", points, boxes, ("points", "boxes"))
    return PointsInBoxes(*_points_in_boxes(points, boxes))


@torch.library.register_fake("detcore::points_in_boxes")
def _(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    one_device("points_in_boxes", points=points, boxes=boxes)
    return (
        points.new_empty(points.shape[:-1], dtype=torch.int64),
        points.new_empty(boxes.shape[:-1], dtype=torch.int64),
    )


not_differentiable(
    "points_in_boxes", "take points and boxes by the indices that it gives", indices=True
)
batched_by_leading_dims("points_in_boxes", tensors=2)
