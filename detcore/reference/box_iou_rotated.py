"""IoU of rotated boxes in plain PyTorch: what the kernels of `box_iou_rotated` must give."""

import math

import torch
from torch import Tensor


def box_iou_rotated(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """[..., N, 5] and [..., M, 5] (cxcywhr) give [..., N, M], as `detcore.ops.box_iou` says.

    The same integral as in the kernels (csrc/kernels/include/detcore/rotated_box.h), in float64.
    """
    dtype = torch.float64 if boxes1.dtype == torch.float64 else torch.float32
    first, second = boxes1[..., :, None, :].double(), boxes2[..., None, :, :].double()
    iou = iou_of_areas(rotated_area(first), rotated_area(second), shared_area(first, second))
    finite = first.isfinite().all(-1) & second.isfinite().all(-1)
    return torch.where(finite, iou, math.nan).to(dtype)


def iou_of_areas(area1: Tensor, area2: Tensor, inter: Tensor) -> Tensor:
    """IoU from the areas, or volumes, of two boxes and their intersection."""
    union = area1 + area2 - inter
    some = inter > 0
    return torch.where(some, inter / torch.where(some, union, 1), 0)


def shared_area(first: Tensor, second: Tensor) -> Tensor:
    """The area of the intersection of cxcywhr boxes, at most that of either."""
    inter = _part_inside(first, second).clamp(min=0)
    return torch.minimum(inter, torch.minimum(rotated_area(first), rotated_area(second)))


def rotated_area(boxes: Tensor) -> Tensor:
    """The area of cxcywhr boxes, 0 without positive sides."""
    width, height = boxes[..., 2], boxes[..., 3]
    return torch.where((width > 0) & (height > 0), width * height, 0)


def _part_inside(a: Tensor, b: Tensor) -> Tensor:
    """The area of b inside a, from the integrals over b's edges in the frame of a."""
    ax, ay, aw, ah, a_angle = a.unbind(-1)
    bx, by, bw, bh, b_angle = b.unbind(-1)
    turned, turn = a_angle * math.pi / 180, (b_angle - a_angle) * math.pi / 180
    dx, dy = bx - ax, by - ay
    x = dx * turned.cos() - dy * turned.sin()
    y = dx * turned.sin() + dy * turned.cos()
    wx, wy = bw * turn.cos(), -bw * turn.sin()  # along b's width and height
    hx, hy = bh * turn.sin(), bh * turn.cos()
    left, top = x - (wx + hx) / 2, y - (wy + hy) / 2  # the corner that is first along both
    size = (aw / 2, ah / 2)
    return (
        _below(left + hx, top + hy, wx, wy, *size)
        - _below(left, top, wx, wy, *size)
        + _below(left, top, hx, hy, *size)
        - _below(left + wx, top + wy, hx, hy, *size)
    )


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
