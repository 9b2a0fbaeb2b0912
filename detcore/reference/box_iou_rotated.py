"""Overlap of rotated boxes in plain PyTorch: what the kernels must give.

The same integral and the same quadrants as in the kernels (rotated_box.h and rotated_pair.h in
csrc/kernels/include/detcore), in float64.
"""

import math

import torch
from torch import Tensor


def box_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """[..., N, 5] and [..., M, 5] (cxcywhr) give [..., N, M], as `detcore.ops.box_iou` says."""
    return paired_box_iou_rotated(boxes1[..., :, None, :], boxes2[..., None, :, :], "iou", 0.0)


def paired_box_iou_rotated(boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> Tensor:
    """[..., 5] and [..., 5] (cxcywhr, broadcast) give [...]; kind is "iou" or "giou"."""
    dtype = torch.float64 if boxes1.dtype == torch.float64 else torch.float32
    first, second = torch.broadcast_tensors(boxes1.double(), boxes2.double())
    area1, area2, inter = rotated_area(first), rotated_area(second), shared_area(first, second)
    value = iou_of_areas(area1, area2, inter, eps)
    if kind == "giou":
        hull, union = _hull(first, second), area1 + area2 - inter
        value = value - _quotient(hull - union, hull + eps, hull > 0)
    finite = first.isfinite().all(-1) & second.isfinite().all(-1)
    return torch.where(finite, value, math.nan).to(dtype)


def iou_of_areas(area1: Tensor, area2: Tensor, inter: Tensor, eps: float = 0.0) -> Tensor:
    """IoU from the areas, or volumes, of two boxes and their intersection."""
    return _quotient(inter, area1 + area2 - inter + eps, inter > 0)


def _quotient(a: Tensor, b: Tensor, where: Tensor) -> Tensor:
    return torch.where(where, a / torch.where(where, b, 1), 0)


def shared_area(first: Tensor, second: Tensor) -> Tensor:
    """The area of the intersection of cxcywhr boxes, at most that of either."""
    inter = _part_inside(first, second).clamp(min=0)
    apart = _beside(first, second) | _beside(second, first)
    inter = torch.where(apart, 0, inter)  # where the integral leaves a rounding error
    return torch.minimum(inter, torch.minimum(rotated_area(first), rotated_area(second)))


def rotated_area(boxes: Tensor) -> Tensor:
    """The area of cxcywhr boxes, 0 without positive sides."""
    return boxes[..., 2].relu() * boxes[..., 3].relu()


def _placed(a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """b's centre, and the vectors along its width and height, in the frame of a."""
    turned, turn = a[..., 4] * math.pi / 180, (b[..., 4] - a[..., 4]) * math.pi / 180
    dx, dy = b[..., 0] - a[..., 0], b[..., 1] - a[..., 1]
    x = dx * turned.cos() - dy * turned.sin()
    y = dx * turned.sin() + dy * turned.cos()
    width, height = b[..., 2].relu(), b[..., 3].relu()
    cos, sin = turn.cos(), turn.sin()
    return x, y, width * cos, -width * sin, height * sin, height * cos


def _part_inside(a: Tensor, b: Tensor) -> Tensor:
    """The area of b inside a, from the integrals over b's edges in the frame of a."""
    x, y, wx, wy, hx, hy = _placed(a, b)
    left, top = x - (wx + hx) / 2, y - (wy + hy) / 2  # the corner that is first along both
    size = (a[..., 2].relu() / 2, a[..., 3].relu() / 2)
    return (
        _below(left + hx, top + hy, wx, wy, *size)
        - _below(left, top, wx, wy, *size)
        + _below(left, top, hx, hy, *size)
        - _below(left + wx, top + wy, hx, hy, *size)
    )


def _beside(a: Tensor, b: Tensor) -> Tensor:
    """Whether all of b is on one side of a, along one of a's axes."""
    x, y, wx, wy, hx, hy = _placed(a, b)
    across = a[..., 2].relu() + wx.abs() + hx.abs()
    down = a[..., 3].relu() + wy.abs() + hy.abs()
    return (2 * x.abs() >= across) | (2 * y.abs() >= down)


def _below(x: Tensor, y: Tensor, dx: Tensor, dy: Tensor, half_w: Tensor, half_h: Tensor) -> Tensor:
    """The integral of the edge's y, clamped to the box, over x within the box."""
    safe_dx, safe_dy = (torch.where(d.abs() < 1e-20, 1e-20, d) for d in (dx, dy))
    at = torch.stack(((-half_w - x) / safe_dx, (half_w - x) / safe_dx)).clamp(0, 1)
    begin, end = at.amin(0), at.amax(0)
    at = torch.stack(((-half_h - y) / safe_dy, (half_h - y) / safe_dy))
    enter = torch.minimum(torch.maximum(at.amin(0), begin), end)
    leave = torch.minimum(torch.maximum(at.amax(0), begin), end)
    first = torch.where(safe_dy > 0, -half_h, half_h)
    inside = (leave - enter) * (y + dy * (enter + leave) / 2)
    return dx * (first * ((enter - begin) - (end - leave)) + inside)


def _hull(a: Tensor, b: Tensor) -> Tensor:
    """The area of the convex hull of both, from the four quadrants about a's centre."""
    x, y, wx, wy, hx, hy = _placed(a, b)
    # the corners of b farthest along x and y, from its centre
    turn = (b[..., 4] - a[..., 4]) * math.pi / 180
    along, across = (torch.where(v < 0, -0.5, 0.5) for v in (turn.cos(), turn.sin()))
    right = along * wx + across * hx, along * wy + across * hy
    top = along * hx - across * wx, along * hy - across * wy
    corner = a[..., 2].relu() / 2, a[..., 3].relu() / 2
    area = torch.zeros_like(x)
    for sx, sy in ((1, 1), (-1, 1), (1, -1), (-1, -1)):
        area = area + _hull_in_quadrant(
            corner,
            (sx * x + right[0], sy * y + sx * sy * right[1]),
            (sx * x + sx * sy * top[0], sy * y + top[1]),
        )
    return area


Point = tuple[Tensor, Tensor]


def _hull_in_quadrant(corner: Point, right: Point, top: Point) -> Tensor:
    beside, above = right[0] > corner[0], top[1] > corner[1]

    def either(first: Tensor, a: Point, b: Point) -> Point:
        return torch.where(first, a[0], b[0]), torch.where(first, a[1], b[1])

    start, end = either(beside, right, corner), either(above, top, corner)
    third = either(beside, either(above, corner, top), either(above, right, corner))
    dx, dy = start[0] - end[0], end[1] - start[1]
    outside = ((third[0] - start[0]) * dy + (third[1] - start[1]) * dx).relu()
    return start[0] * end[1] - dx * dy / 2 + outside / 2
