"""Small inputs for the registry and the tests: on the CPU, the same for the same seed.

Nothing here is imported by ``import detcore.ops``.
"""

import torch
from torch import Tensor


def random_boxes(
    n: int, extent: float = 100.0, side: float = 40.0, seed: int = 0, whole: bool = False
) -> Tensor:
    """[n, 4] float64 xyxy boxes; whole: on integer coordinates, so that IoUs hit thresholds."""
    g = torch.Generator().manual_seed(seed * 1000003 + n)
    low = torch.rand(n, 2, generator=g, dtype=torch.float64) * extent
    size = torch.rand(n, 2, generator=g, dtype=torch.float64) * side + 1
    boxes = torch.cat((low, low + size), dim=1)
    return boxes.round() if whole else boxes


def random_rotated_boxes(
    n: int, extent: float = 100.0, side: float = 40.0, seed: int = 0, thin: float = 1.0
) -> Tensor:
    """[n, 5] float64 cxcywhr boxes, at any angle; thin: up to so many times as wide as high."""
    g = torch.Generator().manual_seed(seed * 1000003 + n)
    part = torch.rand(n, 5, generator=g, dtype=torch.float64)
    size = part[:, 2:4] * side + 1
    size[:, 1] *= thin ** -torch.rand(n, generator=g, dtype=torch.float64)
    return torch.cat((part[:, :2] * extent, size, part[:, 4:] * 720 - 360), dim=1)


def random_boxes_3d(
    n: int, extent: float = 100.0, side: float = 40.0, seed: int = 0, thin: float = 1.0
) -> Tensor:
    """[n, 7] float64 boxes in space, near each other in z; thin: as `random_rotated_boxes`."""
    flat = random_rotated_boxes(n, extent, side, seed, thin)
    g = torch.Generator().manual_seed(seed * 1000003 + n + 1)
    z, dz = torch.rand(2, n, 1, generator=g, dtype=torch.float64) * side
    x, y, dx, dy, angle = flat.split(1, 1)
    return torch.cat((x, y, z, dx, dy, dz + 1, angle / 60), 1)


def scores_for(n: int, seed: int = 0, levels: int | None = None) -> Tensor:
    """[n] float64 in [0, 1); levels: rounded to so many values, so that many tie."""
    scores = torch.rand(n, generator=torch.Generator().manual_seed(seed + n), dtype=torch.float64)
    return scores if levels is None else (scores * levels).floor() / levels


def boxes(n: int, seed: int = 0) -> Tensor:
    """[n, 4] float32 xyxy."""
    return random_boxes(n, seed=seed).float()


def rotated(n: int, seed: int = 0) -> Tensor:
    """[n, 5] float32 cxcywhr."""
    return random_rotated_boxes(n, seed=seed).float()


def in_space(n: int, seed: int = 0) -> Tensor:
    """[n, 7] float32 boxes in space."""
    return random_boxes_3d(n, seed=seed).float()


def cloud(n: int, seed: int = 0) -> Tensor:
    """[n, 3] points, many of them in boxes of `in_space`."""
    g = torch.Generator().manual_seed(seed + n)
    return torch.rand(n, 3, generator=g) * torch.tensor([100.0, 100, 40])


def scores(n: int, seed: int = 0) -> Tensor:
    """[n] float32 in [0, 1)."""
    return scores_for(n, seed).float()


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Normally distributed float32 numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def grid_map(side: int, seed: int = 0) -> Tensor:
    """[2, 8, side, side], for regions to be pooled from."""
    return normal(2, 8, side, side, seed=seed)


def rois(n: int, seed: int = 0) -> Tensor:
    """[n, 5]: an image's index, 0 or 1, and a box."""
    return torch.cat((torch.arange(n)[:, None] % 2, boxes(n, seed) / 6), 1)


def turned_rois(n: int, seed: int = 0) -> Tensor:
    """[n, 6]: an image's index, 0 or 1, and a rotated box."""
    turned = rotated(n, seed)
    turned[:, :4] /= 4
    return torch.cat((torch.arange(n)[:, None] % 2, turned), 1)


def places(n: int) -> Tensor:
    """What `roi_pool` keeps for its gradient."""
    argmax: Tensor = torch.ops.detcore.roi_pool(grid_map(24), rois(n), 1.0, 7, 7)[1]
    return argmax
