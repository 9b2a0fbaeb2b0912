from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from detcore import ops, reference

from .. import inputs
from ..case import Case, Must, call


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""

    def same(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], *_: Tensor) -> bool:
        kept = torch.equal(ours[0], theirs[0])
        return kept and torch.allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-4)

    for n in (10, 100, 1000, 5000):
        for method in ("linear", "gaussian"):
            yield Case(
                "soft_nms",
                f"soft_nms {n:,} boxes, {method}",
                partial(inputs.scattered, n),
                replace(call(ops.soft_nms, method=method), waits=True),
                # torchvision has none
                {"plain PyTorch": call(reference.soft_nms, method=method)},
                same,
                must=Must("times", 1, 2) if n == 10 else None,
                quick=n <= 1000,
            )
