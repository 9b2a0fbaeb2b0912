from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from detcore import ops, reference

from .. import inputs
from ..case import Case, Must, call


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    yield _case("20,000 points, 100 boxes", 20_000, 100, Must("times", 20, 100))
    yield _case("200,000 points, 100 boxes", 200_000, 100, Must("times", 20, 100), quick=False)
    yield _case("100 points, 10 boxes", 100, 10, Must("times", 1, 2))


def _case(work: str, points: int, boxes: int, must: Must, *, quick: bool = True) -> Case:
    return Case(
        "points_in_boxes",
        f"points_in_boxes {work}",
        partial(_scene, points, boxes),
        call(ops.points_in_boxes),
        {"plain PyTorch": call(reference.points_in_boxes)},
        _same,
        must=must,
        quick=quick,
    )


def _scene(points: int, boxes: int) -> tuple[Tensor, Tensor]:
    """Points over the ground that the boxes stand on."""
    part = torch.rand(points, 3, generator=torch.Generator().manual_seed(2))
    return (part - 0.5) * torch.tensor([100.0, 100.0, 3.0]), inputs.boxes_in_space(boxes)


def _same(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], *_: Tensor) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
