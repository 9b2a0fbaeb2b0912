"""IoU of boxes in space in plain PyTorch: box3d_iou and bev_iou."""

import math

import torch
from torch import Tensor

from .box_iou_rotated import iou_of_areas, rotated_area, shared_area


def bev_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """[..., N, 7] and [..., M, 7] give [..., N, M]: IoU as seen from above."""
    return box3d_iou(boxes1, boxes2, from_above=True)


def box3d_iou(boxes1: Tensor, boxes2: Tensor, from_above: bool = False) -> Tensor:
    """[..., N, 7] and [..., M, 7] give [..., N, M]: IoU in space, in float64."""
    dtype = torch.float64 if boxes1.dtype == torch.float64 else torch.float32
    first, second = boxes1[..., :, None, :].double(), boxes2[..., None, :, :].double()
    seen1, seen2 = _from_above(first), _from_above(second)
    inter, size1, size2 = shared_area(seen1, seen2), rotated_area(seen1), rotated_area(seen2)
    if not from_above:
        height1, height2 = first[..., 5].clamp(min=0), second[..., 5].clamp(min=0)
        inter = inter * _shared_height(first[..., 2] - second[..., 2], height1, height2)
        size1, size2 = size1 * height1, size2 * height2
    finite = first.isfinite().all(-1) & second.isfinite().all(-1)
    return torch.where(finite, iou_of_areas(size1, size2, inter), math.nan).to(dtype)


def _from_above(boxes: Tensor) -> Tensor:
    """cxcywhr boxes, whose angle turns the other way, because their y points down."""
    x, y, _, dx, dy, _, yaw = boxes.unbind(-1)
    return torch.stack((x, y, dx, dy, yaw * (-180 / math.pi)), -1)


def _shared_height(up: Tensor, height1: Tensor, height2: Tensor) -> Tensor:
    """The length of z that two boxes share; up: from the second centre to the first."""
    top = torch.minimum(up + height1 / 2, height2 / 2)
    bottom = torch.maximum(up - height1 / 2, -height2 / 2)
    return (top - bottom).clamp(min=0)
