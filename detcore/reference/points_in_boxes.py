"""Which points are in which boxes, in plain PyTorch: what `points_in_boxes` must give."""

import torch
from torch import Tensor


def points_in_boxes(points: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """[..., P, 3] and [..., N, 7] give the lowest box of each point [..., P], -1 for none, and the
    number of points in each box [..., N]."""
    x, y, z, dx, dy, dz, yaw = boxes.double()[..., None, :, :].unbind(-1)
    px, py, pz = points.double()[..., :, None, :].unbind(-1)
    along = (px - x) * yaw.cos() + (py - y) * yaw.sin()
    across = (py - y) * yaw.cos() - (px - x) * yaw.sin()
    inside = (along.abs() <= dx / 2) & (across.abs() <= dy / 2) & ((pz - z).abs() <= dz / 2)
    inside &= (boxes.isfinite().all(-1) & (boxes[..., 3:6] > 0).all(-1))[..., None, :]
    count = boxes.shape[-2]
    index = torch.arange(count, device=points.device).expand(inside.shape)
    lowest = (
        torch.where(inside, index, count).amin(-1) if count else index.new_zeros(index.shape[:-1])
    )
    return torch.where(lowest == count, -1, lowest), inside.sum(-2)
