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
    order = torch.sort(scores, descending=True, stable=True).indices
    valid = ~(boxes.isnan().any(-1) | scores.isnan())
    order = order[valid[order]]
    ranked, ids = boxes[order], idxs[order]
    # the quotient is compared as a double, so that a threshold like 0.6 is not rounded first
    overlap = box_iou(ranked, ranked).double() > iou_threshold
    suppresses = overlap & (ids[:, None] == ids[None, :])
    alive = torch.ones(len(order), dtype=torch.bool, device=boxes.device)
    for i in range(len(order)):
        if alive[i]:
            alive[i + 1 :] &= ~suppresses[i, i + 1 :]
    return order[alive]
