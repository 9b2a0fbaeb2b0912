from collections.abc import Iterator
from functools import partial

import torch
import torchvision
from torch import Tensor

from detcore import ops

from .. import inputs
from ..case import Case, Contender, Must, call, equal, tensors_once
from .box_iou import close
from .roi_align import backward_of, full_pooled, small_map

SETTINGS = (7, 1 / 16)  # output size, scale of a map at stride 16


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    theirs = {"torchvision": call(torchvision.ops.roi_pool, *SETTINGS)}
    for layout in ("NCHW", "channels-last"):
        yield Case(
            "roi_pool",
            f"roi_pool 512 RoIs, {layout}",
            partial(_regions, layout == "channels-last"),
            call(ops.roi_pool, *SETTINGS),
            theirs,
            equal,
            limit=Contender(full_pooled),
            must=Must("times", 3, 6),
            new_pages=True,
        )
    yield Case(
        "roi_pool",
        "roi_pool backward, 512 RoIs, NCHW",
        partial(_regions, False),
        backward_of(ops.roi_pool, *SETTINGS),
        {"torchvision": backward_of(torchvision.ops.roi_pool, *SETTINGS)},
        close,
        limit=Contender(lambda input, rois: partial(torch.full_like, input, 1.0)),
        moved=_backward_moves,
        must=Must("times", 2, 3),
        new_pages=True,
    )
    yield Case(
        "roi_pool",
        "roi_pool 10 RoIs of a small map",
        small_map,
        call(ops.roi_pool, *SETTINGS),
        theirs,
        equal,
        must=Must("times", 1, 2),
    )


def _regions(channels_last: bool) -> tuple[Tensor, Tensor]:
    """A map [2, 256, 50, 68] of two 800 x 1,088 pictures at stride 16, and RoIs [512, 5]."""
    input, rois = inputs.pyramid(512)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return input[:, :, :50, :68].contiguous(memory_format=layout), rois


def _backward_moves(inputs: tuple[Tensor, Tensor], gradient: Tensor) -> int:
    """The pooled gradient and places, and the RoIs in, the map's gradient out."""
    input, rois = inputs
    pooled = len(rois) * input.shape[1] * 7 * 7 * (input.element_size() + 4)
    return pooled + tensors_once((rois,), gradient)
