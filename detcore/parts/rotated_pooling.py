"""Turned regions of a feature pyramid, each from the level of its size."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detcore.ops import roi_align_rotated
from detcore.reference.multiscale_roi_align import pyramid_level


def multiscale_roi_align_rotated(
    maps: Sequence[Tensor],
    rois: Tensor,
    output_size: int,
    scales: Sequence[float],
    sampling_ratio: int,
) -> Tensor:
    """`roi_align_rotated` over a pyramid, by `multiscale_roi_align`'s rule for the level.

    As there, a map's first column is at pixel 0 and not half a cell from it: both read the same
    maps, which can be right for one convention only. In a turned frame the other one would be an
    error that turns with the region.

    Args:
        maps: [B, C, H_l, W_l], finest first. scales: of each, its pixels per pixel of the image.
        rois: [R, 6] (image, cx, cy, width, height, degrees), pixels of the image.
        output_size: side S of the result. sampling_ratio: samples per bin along each side.

    Returns:
        [R, C, S, S]. Differentiable in the maps. Deterministic.
    """
    corners = torch.cat((torch.zeros_like(rois[:, :2]), rois[:, 3:5]), dim=1)
    level = pyramid_level(corners, scales)
    pooled = []
    for i, (m, scale) in enumerate(zip(maps, scales, strict=True)):
        # a region that is not a number pools to zeros: no shape depends on the levels, and nothing
        # is read back to know how many each has
        place = rois[:, 1:].masked_fill((level != i)[:, None], math.nan)
        own = torch.cat((rois[:, :1], place), dim=1)
        pooled.append(roi_align_rotated(m, own, output_size, scale, sampling_ratio, aligned=False))
    return torch.stack(pooled).sum(dim=0) if len(pooled) > 1 else pooled[0]
