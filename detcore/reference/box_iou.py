"""Pairwise IoU and its kin in plain PyTorch: what the kernels of `box_iou` must give."""

import torch
from torch import Tensor

from .box_iou_rotated import box_iou_rotated
from .paired_box_iou import overlap


def box_iou(
    boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy", kind: str = "iou", eps: float = 1e-7
) -> Tensor:
    """[..., N, 4] and [..., M, 4] give [..., N, M]; formats as in `detcore.ops.box_iou`.

    Of rotated ones "cxcywhr" alone, [..., N, 5] and [..., M, 5].
    """
    if fmt == "cxcywhr":
        return box_iou_rotated(boxes1, boxes2)
    boxes1, boxes2 = (to_xyxy(boxes, fmt) for boxes in (boxes1, boxes2))
    return overlap(boxes1[..., :, None, :], boxes2[..., None, :, :], kind, eps, 0.0)


def to_xyxy(boxes: Tensor, fmt: str) -> Tensor:
    """Boxes [..., 4] of format xyxy, xywh or cxcywh as xyxy."""
    if fmt == "xyxy":
        return boxes
    if not boxes.is_floating_point():
        boxes = boxes.float()
    if boxes.dtype in (torch.float16, torch.bfloat16):
        boxes = boxes.float()
    point, size = boxes[..., :2], boxes[..., 2:]
    low = point if fmt == "xywh" else point - 0.5 * size
    return torch.cat((low, low + size if fmt == "xywh" else point + 0.5 * size), dim=-1)
