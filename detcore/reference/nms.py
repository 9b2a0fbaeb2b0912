"""Greedy non-maximum suppression in plain PyTorch."""

import torch
from torch import Tensor

from .box_iou import box_iou


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Indices [K] kept, by descending score, ties to the lower index; NaN is never kept."""
    same_class = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
    return batched_nms(boxes, scores, same_class, iou_threshold)


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """As `nms`, where only boxes of equal class id suppress each other."""
    valid = ~(boxes.isnan().any(-1) | scores.isnan())
    # the quotient is compared as a double, so that a threshold like 0.6 is not rounded first
    return greedy(scores, idxs, valid, box_iou(boxes, boxes).double() > iou_threshold)


def greedy(scores: Tensor, idxs: Tensor, valid: Tensor, overlap: Tensor) -> Tensor:
    """Indices kept of the valid boxes, best first; overlap [N, N]: which pairs overlap too much."""
    order = torch.sort(scores, descending=True, stable=True).indices
    order = order[valid[order]]
    suppresses = (overlap & (idxs[:, None] == idxs[None, :]))[order][:, order]
    alive = torch.ones(len(order), dtype=torch.bool, device=scores.device)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~suppresses[i, i + 1 :]
    return order[alive]
