"""Greedy suppression of boxes in space, by nms_3d, nms_bev and their batched forms, in plain
PyTorch."""

import torch
from torch import Tensor

from .box3d_iou import bev_iou, box3d_iou
from .nms import greedy


def nms_3d(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices [K] kept of boxes [N, 7], by descending score, ties to the lower index."""
    return batched_nms_3d(boxes, scores, _same_class(boxes), iou_threshold)


def nms_bev(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """As `nms_3d`, by the IoU as seen from above."""
    return batched_nms_bev(boxes, scores, _same_class(boxes), iou_threshold)


def batched_nms_3d(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """As `nms_3d`, where only boxes of equal class id suppress each other."""
    overlap = box3d_iou(boxes, boxes).double() > iou_threshold
    return greedy(scores, idxs, _valid(boxes, scores), overlap)


def batched_nms_bev(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """As `nms_bev`, where only boxes of equal class id suppress each other."""
    overlap = bev_iou(boxes, boxes).double() > iou_threshold
    return greedy(scores, idxs, _valid(boxes, scores), overlap)


def _valid(boxes: Tensor, scores: Tensor) -> Tensor:
    return boxes.isfinite().all(-1) & ~scores.isnan()


def _same_class(boxes: Tensor) -> Tensor:
    return torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
