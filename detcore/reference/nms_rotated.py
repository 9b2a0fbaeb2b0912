"""Greedy non-maximum suppression of rotated boxes in plain PyTorch."""

import torch
from torch import Tensor

from .box_iou_rotated import box_iou_rotated
from .nms import greedy


def nms_rotated(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices [K] kept of boxes [N, 5], by descending score, ties to the lower index."""
    same_class = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return batched_nms_rotated(boxes, scores, same_class, iou_threshold)


def batched_nms_rotated(
    boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float
) -> Tensor:
    """As `nms_rotated`, where only boxes of equal class id suppress each other."""
    valid = boxes.isfinite().all(-1) & ~scores.isnan()
    overlap = box_iou_rotated(boxes, boxes).double() > iou_threshold
    return greedy(scores, idxs, valid, overlap)
