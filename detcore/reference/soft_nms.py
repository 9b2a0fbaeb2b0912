"""Soft non-maximum suppression in plain PyTorch."""

import torch
from torch import Tensor

from .box_iou import box_iou


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
) -> tuple[Tensor, Tensor]:
    """Indices [K] and decayed scores [K], as in `detcore.ops.soft_nms`."""
    wide = torch.float64 in (boxes.dtype, scores.dtype)
    dtype = torch.float64 if wide else torch.float32
    own, left = boxes.to(dtype), scores.to(dtype).clone()
    left[boxes.isnan().any(dim=1)] = -torch.inf
    left[~(left.double() >= min_score)] = -torch.inf
    keep, decayed = [], []
    # argmax gives the first of equal ones on the CPU, which no document promises
    while len(left) and (best := left.max()) > -torch.inf:
        i = int(torch.where(left == best)[0][0])
        keep.append(i)
        decayed.append(best)
        left[i] = -torch.inf
        iou = box_iou(own[i : i + 1], own)[0].nan_to_num(0.0)
        if method == "gaussian":
            factor = torch.exp(-iou * iou / sigma)
        else:
            factor = torch.where(iou.double() > iou_threshold, 1 - iou, 1.0)
        left = left * factor
        left[~(left.double() >= min_score)] = -torch.inf
    chosen = torch.tensor(keep, dtype=torch.int64, device=boxes.device)
    return chosen, torch.stack([*decayed, left.new_zeros(())])[:-1].to(scores.dtype)
