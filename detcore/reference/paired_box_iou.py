"""IoU of boxes taken pair by pair in plain PyTorch: the formulas, once."""

import math

import torch
from torch import Tensor

from .box_iou_rotated import paired_box_iou_rotated


def paired_box_iou(
    boxes1: Tensor, boxes2: Tensor, kind: str = "iou", eps: float = 1e-7, fmt: str = "xyxy"
) -> Tensor:
    """[..., 4] and [..., 4] (xyxy; cxcywhr: [..., 5]) give [...], as `detcore.ops.paired_box_iou`.

    In float32, float64 for float64.
    """
    if fmt == "cxcywhr":
        return paired_box_iou_rotated(boxes1, boxes2, kind, eps)
    return overlap(boxes1, boxes2, kind, eps, eps)


def overlap(boxes1: Tensor, boxes2: Tensor, kind: str, eps: float, area_eps: float) -> Tensor:
    """[..., 4] and [..., 4] (xyxy, broadcast) give [...].

    IoU: intersection over union. GIoU: Rezatofighi et al., CVPR 2019. DIoU and CIoU: Zheng et
    al., AAAI 2020; CIoU's trade-off weight is a constant of the gradient, as the paper has it.
    eps is added to lengths that divide, area_eps to areas.
    """
    dtype = torch.promote_types(boxes1.dtype, boxes2.dtype)
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    x11, y11, x12, y12 = boxes1.to(dtype).unbind(-1)
    x21, y21, x22, y22 = boxes2.to(dtype).unbind(-1)
    w1, h1, w2, h2 = x12 - x11, y12 - y11, x22 - x21, y22 - y21
    inter_w = (torch.min(x12, x22) - torch.max(x11, x21)).relu()
    inter_h = (torch.min(y12, y22) - torch.max(y11, y21)).relu()
    inter = inter_w * inter_h
    union = w1 * h1 + w2 * h2 - inter
    iou = inter / (union + area_eps)
    if kind == "iou":
        return iou

    hull_w = (torch.max(x12, x22) - torch.min(x11, x21)).relu()
    hull_h = (torch.max(y12, y22) - torch.min(y11, y21)).relu()
    if kind == "giou":
        hull = hull_w * hull_h
        return iou - (hull - union) / (hull + area_eps)

    diagonal = hull_w**2 + hull_h**2 + eps
    dx = (x11 + x12) / 2 - (x21 + x22) / 2
    dy = (y11 + y12) / 2 - (y21 + y22) / 2
    diou = iou - (dx**2 + dy**2) / diagonal
    if kind == "diou":
        return diou

    v = (4 / math.pi**2) * (torch.atan(w1 / h1) - torch.atan(w2 / h2)) ** 2
    alpha = (v / (1 - iou + v + eps)).detach()
    return diou - alpha * v
