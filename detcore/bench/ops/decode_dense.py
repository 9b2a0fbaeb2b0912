from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from detcore import ops

from ..case import Case, Contender, Function, Must

SIZES = ((32, 64, 128),), ((0.5, 1.0, 2.0),)  # nine anchors per cell, as an RPN has


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    for work, shape, must in (
        ("an RPN's 2 x 9 x 50 x 68", (2, 50, 68), None),
        ("9 boxes", (1, 1, 1), Must("times", 1, 2)),
    ):
        yield Case(
            "decode_dense",
            f"decode_dense {work}",
            partial(_maps, *shape),
            Contender(_ours),
            {"torchvision": Contender(_theirs)},
            lambda x, y, *_: torch.allclose(x, y, rtol=1e-4, atol=1e-2),
            limit=Contender(_full) if must is None else None,
            must=must,
        )


def _maps(images: int, height: int, width: int) -> tuple[Tensor]:
    g = torch.Generator().manual_seed(7)
    return (torch.randn(images, 36, height, width, generator=g),)


def _ours(maps: Tensor) -> Function:
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    anchors = AnchorGenerator(*SIZES).cell_anchors[0].to(maps.device)
    return lambda: ops.decode_dense(maps, anchors, 16)[0]


def _theirs(maps: Tensor) -> Function:
    from torchvision.models.detection._utils import BoxCoder
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.image_list import ImageList

    n, _, height, width = maps.shape
    generator, coder = AnchorGenerator(*SIZES), BoxCoder((1.0, 1.0, 1.0, 1.0))
    size = (16 * height, 16 * width)
    images = ImageList(torch.zeros(n, 3, *size), [size] * n)

    def decode() -> Tensor:
        anchors = generator(images, [maps])
        flat = maps.view(n, 9, 4, height, width).permute(0, 3, 4, 1, 2).reshape(n, -1, 4)
        return torch.stack([coder.decode_single(f, a) for f, a in zip(flat, anchors, strict=True)])

    return decode


def _full(maps: Tensor) -> Function:
    n, _, height, width = maps.shape
    return partial(torch.full, (n, 9 * height * width, 4), 1.0, device=maps.device)
