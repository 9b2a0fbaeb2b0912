from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from detcore import ops

from .. import inputs
from ..case import Case, Contender, Must, call
from .box_iou import close
from .roi_align import _backward_moves, backward_of, full_pooled

SIZE, SCALE, RATIO = 7, 0.25, 2  # of the result; of a map at stride 4; samples per side of a bin
SETTINGS = (SIZE, SCALE, RATIO)


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    for layout in ("NCHW", "channels-last"):
        yield Case(
            "roi_align_rotated",
            f"roi_align_rotated 1,000 RoIs, {layout}",
            partial(_regions, layout == "channels-last"),
            call(ops.roi_align_rotated, *SETTINGS),
            {"plain PyTorch": call(by_grid_sample, *SETTINGS)},
            close,
            limit=Contender(full_pooled),
            must=Must("times", 5, 15),
            new_pages=True,
        )
    yield Case(
        "roi_align_rotated",
        "roi_align_rotated backward, 1,000 RoIs, NCHW",
        partial(_regions, False),
        backward_of(ops.roi_align_rotated, *SETTINGS),
        {"plain PyTorch": backward_of(by_grid_sample, *SETTINGS)},
        close,
        limit=Contender(lambda input, rois: partial(torch.full_like, input, 1.0)),
        moved=_backward_moves,
        must=Must("times", 5, 15),
        new_pages=True,
    )
    yield Case(
        "roi_align_rotated",
        "roi_align_rotated 10 RoIs of a small map",
        _small_map,
        call(ops.roi_align_rotated, *SETTINGS),
        {"plain PyTorch": call(by_grid_sample, *SETTINGS)},
        close,
        must=Must("times", 1, 2),
    )


def _regions(channels_last: bool) -> tuple[Tensor, Tensor]:
    """`inputs.pyramid`'s map and boxes, turned by any angle."""
    input, rois = inputs.pyramid()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return input.contiguous(memory_format=layout), _turned(rois)


def _small_map() -> tuple[Tensor, Tensor]:
    """A map [2, 4, 50, 68] and RoIs [10, 6]."""
    input, rois = inputs.pyramid(10)
    return input[:, :4, :50, :68].contiguous(), _turned(rois)


def _turned(rois: Tensor) -> Tensor:
    low, high = rois[:, 1:3], rois[:, 3:]
    angle = torch.rand(len(rois), 1, generator=torch.Generator().manual_seed(11)) * 360
    return torch.cat((rois[:, :1], (low + high) / 2, high - low, angle), 1)


def by_grid_sample(input: Tensor, rois: Tensor, size: int, scale: float, ratio: int) -> Tensor:
    """The same samples by grid_sample, all of an image's regions in one call, and their means."""
    side = size * ratio
    at = (torch.arange(side, device=rois.device, dtype=rois.dtype) + 0.5) / side - 0.5
    turn = rois[:, 5, None, None].deg2rad()
    u, v = at[None, None, :] * rois[:, 3, None, None], at[None, :, None] * rois[:, 4, None, None]
    x = (v * turn.sin() + u * turn.cos() + rois[:, 1, None, None]) * scale - 0.5
    y = (v * turn.cos() - u * turn.sin() + rois[:, 2, None, None]) * scale - 0.5
    height, width = input.shape[2:]
    inside = (x >= -1) & (x <= width) & (y >= -1) & (y <= height)
    # with align_corners=True -1 and 1 are the centres of the first and the last pixel
    grid = torch.stack((x / (width - 1), y / (height - 1)), 3) * 2 - 1
    out = input.new_empty(len(rois), input.shape[1], size, size)
    settings: dict[str, Any] = {"padding_mode": "border", "align_corners": True}
    for i in range(len(input)):
        mine = (rois[:, 0] == i).nonzero()[:, 0]
        of_image = grid[mine].view(1, -1, side, 2)
        samples = grid_sample(input[i : i + 1], of_image, **settings)
        samples = samples * inside[mine].view(1, 1, -1, side)
        means = avg_pool2d(samples, ratio)  # [1, C, regions * size, size]
        out[mine] = means.view(-1, len(mine), size, size).transpose(0, 1)
    return out
