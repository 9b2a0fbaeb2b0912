"""Anchors: the cell's own, and the whole grid's."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def cell_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float] = (1.0,), *, rounded: bool = False
) -> Tensor:
    """Anchors of one cell, around the origin: [A, 4] xyxy, pixels, float32.

    Every aspect ratio (height / width) is combined with every size (the root of the area, pixels):
    A = len(sizes) * len(aspect_ratios), ratio-major, as in Faster R-CNN (Ren et al., 2015) and
    torchvision's AnchorGenerator. `rounded` cuts the coordinates to whole pixels, as torchvision
    does. Raises ValueError for a size or ratio that is not positive.
    """
    for name, values in (("sizes", sizes), ("aspect_ratios", aspect_ratios)):
        if not all(v > 0 for v in values):
            raise ValueError(f"cell_anchors: {name} must be positive, got {list(values)}")
    size = torch.as_tensor(sizes, dtype=torch.float32)
    root = torch.as_tensor(aspect_ratios, dtype=torch.float32).sqrt()
    heights = (root[:, None] * size[None, :]).flatten()
    widths = ((1 / root)[:, None] * size[None, :]).flatten()
    anchors = torch.stack((-widths, -heights, widths, heights), dim=1) / 2
    return anchors.round() if rounded else anchors


def default_boxes(
    size: float, next_size: float, aspect_ratios: Sequence[float], largest: float = math.inf
) -> Tensor:
    """SSD's boxes of one cell, around the origin: [A, 4] xyxy, pixels (Liu et al., SSD, 2016).

    A square of `size`, one of sqrt(size * next_size), and for each aspect ratio r (other than 1) a
    box of area size**2 that is r times as wide as high, and one r times as high as wide, in the
    order of torchvision's DefaultBoxGenerator: A = 2 + 2 * len(aspect_ratios). No side is longer
    than `largest`.
    """
    squares = cell_anchors((size, (size * next_size) ** 0.5))
    oblong = cell_anchors((size,), [v for r in aspect_ratios for v in (1 / r, r)])
    return torch.cat((squares, oblong)).clamp(-largest / 2, largest / 2)


def centred(anchors: Tensor, stride: float | tuple[float, float]) -> Tensor:
    """Anchors [A, 4] around the origin, moved to the centre of a cell that begins there.

    stride: pixels per cell, one number or (y, x). SSD centres its boxes in the cell; Faster R-CNN's
    anchors stand on the cell's corner.
    """
    y, x = stride if isinstance(stride, tuple) else (stride, stride)
    return anchors + anchors.new_tensor((x, y, x, y)) / 2


def grid_anchors(
    anchors: Tensor, grid_size: tuple[int, int], stride: float | tuple[float, float]
) -> Tensor:
    """Anchors of every cell of a map: [H * W * A, 4] xyxy, pixels, rows, then columns, then A.

    anchors: [A, 4] relative to the cell's origin; grid_size: (H, W) cells; stride: pixels per cell,
    one number or (y, x). The order is `decode_dense`'s and `dense_to_rows`'s.
    """
    stride_y, stride_x = stride if isinstance(stride, tuple) else (stride, stride)
    y = torch.arange(grid_size[0], dtype=anchors.dtype, device=anchors.device) * stride_y
    x = torch.arange(grid_size[1], dtype=anchors.dtype, device=anchors.device) * stride_x
    shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
    shifts = torch.stack((shift_x, shift_y, shift_x, shift_y), dim=-1)
    return (shifts[:, :, None, :] + anchors).reshape(-1, 4)
