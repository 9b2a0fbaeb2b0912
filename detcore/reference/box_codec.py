"""The delta codec of R-CNN (Girshick et al., CVPR 2014, appendix C) in plain PyTorch."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

CLIP = math.log(1000 / 16)


def encode_boxes(
    boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)
) -> Tensor:
    """Deltas [N, 4] that take anchors [N, 4] to boxes [N, 4], all xyxy."""
    dtype = _arithmetic(boxes)
    bx, by, bw, bh = _centre_and_size(boxes.to(dtype))
    ax, ay, aw, ah = _centre_and_size(anchors.to(dtype))
    wx, wy, ww, wh = weights
    deltas = (
        wx * (bx - ax) / aw,
        wy * (by - ay) / ah,
        ww * torch.log(bw / aw),
        wh * torch.log(bh / ah),
    )
    return torch.stack(deltas, -1).to(boxes.dtype)


def decode_boxes(
    deltas: Tensor,
    anchors: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    clip: float = CLIP,
) -> Tensor:
    """Boxes [N, 4k], xyxy, from deltas [N, 4k] and anchors [N, 4]; log sizes are cut at `clip`."""
    dtype = _arithmetic(deltas)
    ax, ay, aw, ah = (v[:, None] for v in _centre_and_size(anchors.to(dtype)))
    dx, dy, dw, dh = deltas.to(dtype).unflatten(1, (deltas.shape[1] // 4, 4)).unbind(-1)
    wx, wy, ww, wh = weights
    x, y = dx / wx * aw + ax, dy / wy * ah + ay
    w, h = torch.exp((dw / ww).clamp(max=clip)) * aw, torch.exp((dh / wh).clamp(max=clip)) * ah
    boxes = torch.stack((x - 0.5 * w, y - 0.5 * h, x + 0.5 * w, y + 0.5 * h), -1)
    return boxes.reshape(deltas.shape).to(deltas.dtype)


def _arithmetic(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(-1)
    w, h = x2 - x1, y2 - y1
    return x1 + 0.5 * w, y1 + 0.5 * h, w, h
