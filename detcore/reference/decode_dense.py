"""Boxes and scores of a dense head's raw map in plain PyTorch, one codec at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .box_codec import CLIP, decode_boxes

WITH_OBJECTNESS = ("yolo", "yolo5", "grid")


def decode_dense(
    maps: Tensor,
    anchors: Tensor | None,
    stride: float | tuple[float, float],
    codec: str = "delta",
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float | None = None,
    scale_xy: float = 1.0,
    bins: int = 16,
    score_threshold: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """As `detcore.ops.decode_dense`."""
    stride_y, stride_x = stride if isinstance(stride, tuple) else (stride, stride)
    batch, channels, height, width = maps.shape
    cells = 1 if anchors is None else len(anchors)
    per_cell = channels // cells
    dtype = torch.float64 if maps.dtype == torch.float64 else torch.float32
    raw = maps.to(dtype).reshape(batch, cells, per_cell, height, width).permute(0, 3, 4, 1, 2)

    step = torch.tensor((stride_x, stride_y), dtype=dtype, device=maps.device)
    column = torch.arange(width, dtype=dtype, device=maps.device)
    row = torch.arange(height, dtype=dtype, device=maps.device)
    cell = torch.stack(torch.meshgrid(column, row, indexing="xy"), -1)[:, :, None, :]  # [H,W,1,2]
    shape = None if anchors is None else anchors.to(dtype)

    numbers = 4
    point, size = raw[..., 0:2], raw[..., 2:4]
    if codec == "delta":
        assert shape is not None
        placed = shape + (cell * step).repeat(1, 1, 1, 2)  # [H, W, A, 4]
        flat = placed.expand(batch, *placed.shape).reshape(batch * height * width * cells, 4)
        boxes = decode_boxes(
            raw[..., :4].reshape(len(flat), 4), flat, weights, CLIP if clip is None else clip
        )
    elif codec in ("ltrb", "dfl"):
        centre = (cell + 0.5) * step
        if codec == "dfl":
            numbers = 4 * bins
            bin = torch.arange(bins, dtype=dtype, device=maps.device)
            expected = (raw[..., :numbers].unflatten(-1, (4, bins)).softmax(-1) * bin).sum(-1)
        else:
            expected = raw[..., :4].relu()
        reach = expected * step.repeat(2)
        boxes = torch.cat((centre - reach[..., :2], centre + reach[..., 2:]), -1)
    else:
        limit = float("inf") if clip is None else clip
        if codec == "yolo":
            assert shape is not None
            centre = (point.sigmoid() * scale_xy - 0.5 * (scale_xy - 1) + cell) * step
            extent = size.clamp(max=limit).exp() * shape
        elif codec == "yolo5":
            assert shape is not None
            centre = (2 * point.sigmoid() - 0.5 + cell) * step
            extent = (2 * size.sigmoid()) ** 2 * shape
        else:  # grid
            centre = (point + cell) * step
            extent = size.clamp(max=limit).exp() * step
        boxes = torch.cat((centre - 0.5 * extent, centre + 0.5 * extent), -1)
    boxes = boxes.reshape(batch, height * width * cells, 4)

    scores = raw[..., numbers:].detach().sigmoid()
    if codec in WITH_OBJECTNESS:
        scores = scores[..., :1] if per_cell == 5 else scores[..., :1] * scores[..., 1:]
    scores = scores.reshape(batch, boxes.shape[1], scores.shape[-1])
    if scores.shape[-1] == 0:
        return boxes.to(maps.dtype), None
    if score_threshold is not None:
        scores = torch.where(scores > score_threshold, scores, 0.0)
        boxes = torch.where((scores > 0).any(-1, keepdim=True), boxes, 0.0)
    return boxes.to(maps.dtype), scores.to(maps.dtype)
