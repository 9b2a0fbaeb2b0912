"""ROI-align (He et al., ICCV 2017) in plain PyTorch, one region at a time, by separable weights."""

import math

import torch
from torch import Tensor


def roi_align(
    input: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """input [N, C, H, W] and boxes [K, 5] (image, x1, y1, x2, y2) give [K, C, *output_size].

    The mean of bilinear samples is linear and separable: out = Y @ map @ X^T, where row p of Y
    holds what output row p takes from each row of the map. Differentiable by autograd.
    """
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    height, width = input.shape[-2:]
    pooled = []
    for region in boxes.to(dtype).tolist():
        image = int(region[0])
        left, top, right, bottom = (
            torch.tensor(v, dtype=dtype) * spatial_scale - (0.5 if aligned else 0.0)
            for v in region[1:]
        )
        rows = _axis(top, bottom, output_size[0], height, sampling_ratio, aligned, dtype)
        columns = _axis(left, right, output_size[1], width, sampling_ratio, aligned, dtype)
        rows, columns = rows.to(input.device), columns.to(input.device)
        pooled.append(rows @ input[image].to(dtype) @ columns.T)
    if not pooled:
        return input.new_zeros((0, input.shape[1], *output_size)) + 0 * input.sum()
    return torch.stack(pooled).to(input.dtype)


def _axis(
    low: Tensor, high: Tensor, bins: int, size: int, ratio: int, aligned: bool, dtype: torch.dtype
) -> Tensor:
    """[bins, size]: what each output bin takes from each pixel along one axis."""
    weights = torch.zeros(bins, size, dtype=dtype)
    if not (math.isfinite(low) and math.isfinite(high)):
        return weights
    extent = high - low if aligned else (high - low).clamp(min=1)
    bin_size = extent / bins
    samples = ratio if ratio > 0 else max(math.ceil(bin_size), 0)
    b, s = torch.meshgrid(torch.arange(bins), torch.arange(samples), indexing="ij")
    at = low + b.to(dtype) * bin_size + (s.to(dtype) + 0.5) * bin_size / max(samples, 1)
    inside = (at >= -1) & (at <= size)
    b, at = b[inside], at[inside].clamp(min=0)
    first = at.long()
    last = first >= size - 1
    first = first.clamp(max=size - 1)
    far = torch.where(last, 0.0, at - first)
    weights.index_put_((b, first), 1 - far, accumulate=True)
    weights.index_put_((b, (first + 1).clamp(max=size - 1)), far, accumulate=True)
    return weights / max(samples, 1)
