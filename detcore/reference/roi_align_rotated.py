"""ROI-align of turned regions in plain PyTorch, one region at a time, sample by sample."""

import math

import torch
from torch import Tensor


def roi_align_rotated(
    input: Tensor,
    boxes: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = True,
    clockwise: bool = False,
) -> Tensor:
    """input [N, C, H, W] and boxes [K, 6] (image, cx, cy, w, h, degrees) give [K, C, *output_size].

    The samples lie on a grid along the box's sides, turned around its centre. A pixel of weight 0
    is not read. Differentiable by autograd.
    """
    dtype = torch.float64 if input.dtype == torch.float64 else torch.float32
    pooled = []
    for box in boxes.to(dtype).cpu():
        map = input[int(box[0])].to(dtype)
        if not (box[1:5] * spatial_scale).isfinite().all() or not math.isfinite(box[5]):
            pooled.append(0 * map.nan_to_num(0, 0, 0).sum() + map.new_zeros(len(map), *output_size))
            continue
        x, y = box[1:3] * spatial_scale - (0.5 if aligned else 0.0)
        width, height = box[3:5] * spatial_scale
        if not aligned:
            width, height = width.clamp(min=1), height.clamp(min=1)
        v = _axis(height, output_size[0], sampling_ratio)[:, None, :, None]
        u = _axis(width, output_size[1], sampling_ratio)[None, :, None, :]
        sine, cosine = _sine_and_cosine(-box[5] if clockwise else box[5])
        samples = _sample(map, v * sine + u * cosine + x, v * cosine - u * sine + y)
        pooled.append(
            samples.sum((-1, -2)) / max(v.numel() * u.numel() // math.prod(output_size), 1)
        )
    if not pooled:
        return input.new_zeros((0, input.shape[1], *output_size)) + 0 * input.sum()
    return torch.stack(pooled).to(input.dtype)


def _axis(extent: Tensor, bins: int, ratio: int) -> Tensor:
    """[bins, samples]: where the samples are along a side, from the centre."""
    bin_size = extent / bins
    samples = ratio if ratio > 0 else max(math.ceil(bin_size), 0)
    b, s = torch.meshgrid(torch.arange(bins), torch.arange(samples), indexing="ij")
    b, s = b.to(extent.dtype), s.to(extent.dtype)
    return -0.5 * extent + b * bin_size + (s + 0.5) * bin_size / max(samples, 1)


def _sine_and_cosine(degrees: Tensor) -> tuple[Tensor, Tensor]:
    """In double precision; multiples of 90 degrees are exact."""
    quarters = (degrees.double() / 90).round()
    rest = torch.deg2rad(degrees.double() - 90 * quarters)
    sine, cosine = rest.sin(), rest.cos()
    for _ in range(int(quarters) % 4):
        sine, cosine = cosine, -sine
    return sine.to(degrees.dtype), cosine.to(degrees.dtype)


def _sample(map: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[C, ...]: a map [C, H, W] at places x and y; 0 more than one pixel outside of it."""
    height, width = map.shape[-2:]
    inside = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
    total = torch.zeros((), dtype=map.dtype, device=map.device)
    for row, down in _pixels(y, height):
        for column, across in _pixels(x, width):
            weight = torch.where(inside, down * across, 0).to(map.device)
            values = map[:, row.to(map.device), column.to(map.device)]
            total = total + torch.where(weight != 0, weight * values, 0)
    return total


def _pixels(at: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The two pixels of a place along one axis, and their weights."""
    at = at.clamp(0, size - 1)
    first = at.long()
    far = at - first
    return [(first, 1 - far), ((first + 1).clamp(max=size - 1), far)]
