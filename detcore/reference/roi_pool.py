"""ROI-pool (Girshick, Fast R-CNN, ICCV 2015) in plain PyTorch, one bin at a time."""

import math

import torch
from torch import Tensor

NO_MAXIMUM = -torch.finfo(torch.float32).max


def roi_pool(
    input: Tensor, boxes: Tensor, output_size: tuple[int, int], spatial_scale: float = 1.0
) -> Tensor:
    """input [N, C, H, W] and boxes [K, 5] (image, x1, y1, x2, y2) give [K, C, *output_size].

    The maximum of each bin's pixels, whose gradient goes to the first of equal values. What is not
    above NO_MAXIMUM, NaN too, is never a maximum. Differentiable by autograd.
    """
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    height, width = input.shape[-2:]
    pooled = []
    for region in boxes.to(dtype).cpu():
        left, top, right, bottom = region[1:] * torch.tensor(spatial_scale, dtype=dtype)
        rows = _bins(top, bottom, output_size[0], height)
        columns = _bins(left, right, output_size[1], width)
        bins = [input[int(region[0])][:, a:b, c:d] for a, b in rows for c, d in columns]
        pooled.append(torch.stack([_maximum(bin.flatten(1)) for bin in bins], 1))
    if not pooled:
        return input.new_zeros((0, input.shape[1], *output_size)) + 0 * input.sum()
    return torch.stack(pooled).unflatten(2, output_size)


def _bins(low: Tensor, high: Tensor, bins: int, size: int) -> list[tuple[int, int]]:
    """The pixels [begin, end) of each bin along one axis."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return [(0, 0)] * bins
    start = _rounded(low)
    extent = torch.tensor(max(_rounded(high) - start + 1, 1), dtype=low.dtype) / bins
    edges = [(int((b * extent).floor()), int(((b + 1) * extent).ceil())) for b in range(bins)]
    inside = lambda at: min(max(at + start, 0), size)  # noqa: E731
    return [(inside(begin), inside(end)) for begin, end in edges]


def _rounded(x: Tensor) -> int:
    """Halves go away from zero."""
    whole = int(x.trunc())
    return whole + int(math.copysign(1, x)) * bool((x - x.trunc()).abs() >= 0.5)


def _maximum(pixels: Tensor) -> Tensor:
    """[C, n] to [C]; 0 if n is 0."""
    if pixels.shape[1] == 0:
        return pixels.sum(1)
    possible = pixels.detach() > NO_MAXIMUM
    place = torch.where(possible, pixels.detach(), -math.inf).argmax(1, keepdim=True)
    return torch.where(possible.any(1), pixels.gather(1, place)[:, 0], NO_MAXIMUM)
