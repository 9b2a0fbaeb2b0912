from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from detcore import ops, reference

from .. import inputs
from ..case import Case, call


def cases() -> Iterator[Case]:
    for n in (50_000, 10):
        yield Case(
            "new_op",
            f"new_op {n:,} boxes",
            partial(_boxes, n),
            call(ops.new_op),
            # # TODO: add the library that people use today, and a goal, must=Must(...)
            {"reference": call(reference.new_op)},
            _same,
        )


def _boxes(n: int) -> tuple[Tensor]:
    return (inputs.boxes_like(n),)


def _same(ours: Tensor, theirs: Tensor, *_: Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
