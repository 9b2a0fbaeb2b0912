"""Matching of anchors and ground truths in plain PyTorch: what `match_boxes` must give."""

import torch
from torch import Tensor

from .box_iou import box_iou


def match_boxes(gt: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """[M, 4] and [N, 4], or [M, 5] and [N, 5], of one image, as `detcore.ops.match_boxes`."""
    iou = box_iou(gt, anchors, "cxcywhr" if gt.shape[1] == 5 else "xyxy")
    return match_by_iou(iou, gt, anchors)


def match_by_iou(
    iou: Tensor, gt: Tensor, anchors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`match_boxes` of boxes whose IoUs [M, N] are known."""
    iou = iou.nan_to_num(0.0)
    # below every IoU, so that a box with NaN is nobody's best
    iou[gt.isnan().any(dim=1)] = -1
    iou[:, anchors.isnan().any(dim=1)] = -1
    iou_of_anchor, gt_of_anchor = _best(iou, 0)
    iou_of_gt, anchor_of_gt = _best(iou, 1)
    ties = ((iou == iou_of_gt[:, None]) & (iou >= 0)).any(dim=0)
    return gt_of_anchor, iou_of_anchor, anchor_of_gt, iou_of_gt, ties


def _best(iou: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    if iou.shape[dim] == 0:
        size = iou.shape[1 - dim]
        return iou.new_zeros(size), torch.full((size,), -1, device=iou.device)
    best, index = iou.max(dim=dim)
    return best.clamp(min=0), torch.where(best < 0, -1, index)
