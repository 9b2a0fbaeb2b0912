from collections.abc import Iterator
from functools import partial

import torch
import torchvision
from torch import Tensor

from detcore import ops

from ..case import Case, Contender, Function, Must, call
from .box_iou import close

SCALES = [2.0**-k for k in range(2, 6)]


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    for count, channels, words, must in (
        (1000, 256, "1,000 RoIs, 4 levels", None),
        (10, 4, "10 RoIs, 4 small levels", Must("times", 1, 2)),
    ):
        yield Case(
            "multiscale_roi_align",
            f"multiscale_roi_align {words}",
            partial(_pyramid, count, channels),
            call(ops.multiscale_roi_align, 7, SCALES, 2),
            {"torchvision": Contender(_pooler)},
            close,
            limit=Contender(_full) if must is None else None,
            must=must,
            new_pages=must is None,
        )


def _pyramid(count: int, channels: int) -> tuple[list[Tensor], list[Tensor]]:
    """Maps of two 800 x 1,088 pictures at four levels, and each picture's RoIs."""
    g = torch.Generator().manual_seed(9)
    features = [torch.randn(2, channels, 200 >> i, 272 >> i, generator=g) for i in range(4)]
    # sides log-uniform in 16 to 512 pixels, so that every level has its share
    low = torch.rand(count, 2, generator=g) * torch.tensor([800.0, 600.0])
    side = 16 * 32 ** torch.rand(count, 2, generator=g)
    return features, list(torch.cat((low, low + side), dim=1).split(count // 2))


def _pooler(features: list[Tensor], boxes: list[Tensor]) -> Function:
    named = {str(i): f for i, f in enumerate(features)}
    pool = torchvision.ops.MultiScaleRoIAlign(list(named), 7, 2)
    return partial(pool, named, boxes, [(800, 1088)] * 2)


def _full(features: list[Tensor], boxes: list[Tensor]) -> Function:
    shape = (sum(map(len, boxes)), features[0].shape[1], 7, 7)
    return partial(torch.full, shape, 1.0, device=features[0].device)
