from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from detcore import ops

from .. import inputs
from ..case import Case, Must, call


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    from torchvision.models.detection._utils import BoxCoder

    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))

    def decoded(ours: Tensor, theirs: Tensor, *_: Tensor) -> bool:
        return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-2)

    def encoded(ours: Tensor, theirs: Tensor, *_: Tensor) -> bool:
        return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)

    for n in (200_000, 10):
        yield Case(
            "box_codec",
            f"decode_boxes {n:,}",
            partial(_deltas, n),
            call(ops.decode_boxes),
            {"torchvision": call(coder.decode_single)},
            decoded,
            limit=call(torch.add) if n > 10 else None,
            must=Must("limit", 3, 1.5) if n > 10 else Must("times", 1, 2),
        )
        yield Case(
            "box_codec",
            f"encode_boxes {n:,}",
            partial(_pairs, n),
            call(ops.encode_boxes),
            {"torchvision": call(coder.encode_single)},
            encoded,
            limit=call(torch.add) if n > 10 else None,
            must=None if n > 10 else Must("times", 1, 2),
        )


def _pairs(n: int) -> tuple[Tensor, Tensor]:
    return inputs.boxes_like(n), inputs.boxes_like(n, seed=6)


def _deltas(n: int) -> tuple[Tensor, Tensor]:
    boxes, anchors = _pairs(n)
    return ops.encode_boxes(boxes, anchors), anchors
