"""ROI-align over a feature pyramid in plain PyTorch (Lin et al., CVPR 2017)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .roi_align import roi_align


def multiscale_roi_align(
    features: Sequence[Tensor],
    boxes: Tensor,
    output_size: tuple[int, int],
    scales: Sequence[float],
    sampling_ratio: int = -1,
    canonical_scale: float = 224,
    canonical_level: int = 4,
    aligned: bool = False,
) -> Tensor:
    """features [N, C, H_l, W_l] and boxes [K, 5] (image, x1, y1, x2, y2) give [K, C, *output_size].

    Each box is pooled by `roi_align` from the map of its level. Differentiable by autograd.
    """
    arithmetic = torch.float64 if features[0].dtype == torch.float64 else torch.float32
    level = pyramid_level(boxes[:, 1:].to(arithmetic), scales, canonical_scale, canonical_level)
    pooled = [
        roi_align(features[k], boxes[i : i + 1], output_size, scales[k], sampling_ratio, aligned)
        for i, k in enumerate(level.tolist())
    ]
    if not pooled:
        return roi_align(features[0], boxes, output_size) + 0 * sum(f.sum() for f in features)
    return torch.cat(pooled)


def pyramid_level(
    boxes: Tensor, scales: Sequence[float], canonical_scale: float = 224, canonical_level: int = 4
) -> Tensor:
    """[K] int64: the index among `scales` of each box [K, 4]; 0 where its area is no number."""
    levels = torch.tensor([int(-math.log2(scale)) for scale in scales], device=boxes.device)
    size = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    # the small term keeps a box of exactly the canonical size from falling a level
    level = torch.floor(canonical_level + torch.log2(size / canonical_scale) + 1e-6)
    # a level that is missing gives its boxes to the finer one before it
    return (level[:, None] >= levels[1:]).sum(1)
