"""Upright boxes [..., 4] (xyxy) and oriented ones [..., 5] (cxcywhr, degrees): what differs.

All that takes boxes of either form asks here, so that only this file knows which number is what.
"""

import torch
from torch import Tensor

from detcore.ops import box_area, box_convert, box_iou


def format_of(boxes: Tensor) -> str:
    """The name that `detcore.ops.box_iou` and its kin have for the boxes' form."""
    return "cxcywhr" if boxes.shape[-1] == 5 else "xyxy"


def centres(boxes: Tensor) -> Tensor:
    """[..., 2], x and y."""
    if boxes.shape[-1] == 5:
        return boxes[..., :2]
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def shifted(boxes: Tensor, right: float, down: float) -> Tensor:
    """The boxes so many pixels further."""
    oriented = boxes.shape[-1] == 5
    by = (right, down, 0.0, 0.0, 0.0) if oriented else (right, down, right, down)
    return boxes + boxes.new_tensor(by)


def enclosing(boxes: Tensor) -> Tensor:
    """[..., 4] xyxy: the upright boxes around them."""
    if boxes.shape[-1] == 4:
        return boxes
    points = box_convert(boxes, "cxcywhr", "xyxyxyxy").unflatten(-1, (4, 2))
    return torch.cat((points.amin(-2), points.amax(-2)), dim=-1)


def longer_side_first(boxes: Tensor) -> Tensor:
    """Oriented boxes [..., 5] by the one of their names whose width is the longer side.

    The angle is at least -90 and below 90 degrees, of a square at least -45 and below 45. Upright
    boxes are as they were.
    """
    if boxes.shape[-1] == 4:
        return boxes
    width, height = boxes[..., 2], boxes[..., 3]
    angle = boxes[..., 4] + 90 * (height > width)
    angle = torch.where(width == height, (angle + 45) % 90 - 45, (angle + 90) % 180 - 90)
    sides = (torch.maximum(width, height), torch.minimum(width, height))
    return torch.stack((boxes[..., 0], boxes[..., 1], *sides, angle), dim=-1)


def shared_areas(boxes: Tensor, others: Tensor) -> Tensor:
    """[n, m] the areas that boxes [n, 4 or 5] share with others [m, the same], pixels squared."""
    form = format_of(boxes)
    own, other = box_area(boxes, form)[:, None], box_area(others, form)
    iou = box_iou(boxes, others, fmt=form)
    # iou = shared / (own + other - shared)
    return iou * (own + other) / (1 + iou)


def stretched(boxes: Tensor, ratios: Tensor) -> Tensor:
    """The boxes of an image after it is stretched along its axes.

    ratios: [..., 4], x, y, x and y. A rotated box becomes a parallelogram where the two ratios
    differ; given is the box of its middle, its width's direction and length, and its area.
    """
    if boxes.shape[-1] == 4:
        return boxes * ratios
    x, y = ratios[..., 0], ratios[..., 1]
    turned = torch.deg2rad(boxes[..., 4])
    along, across = x * turned.cos(), y * turned.sin()
    longer = torch.hypot(along, across)
    width, height = boxes[..., 2] * longer, boxes[..., 3] * (x * y / longer)
    angle = torch.rad2deg(torch.atan2(across, along))
    return torch.stack((boxes[..., 0] * x, boxes[..., 1] * y, width, height, angle), dim=-1)
