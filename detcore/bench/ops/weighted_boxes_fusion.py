from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from detcore import ops, reference

from .. import inputs, rivals
from ..case import Case, Must, call

MODELS = 5


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    works = (("1,000", 1_000, Must("times", 20, 100)), ("10", 10, Must("times", 1, 2)))
    for work, n, must in works:
        yield Case(
            "weighted_boxes_fusion",
            f"weighted_boxes_fusion, {MODELS} models x {work} boxes",
            partial(_of_models, n),
            call(_fuse, ops.weighted_boxes_fusion),
            {"ensemble-boxes": rivals.ensemble_boxes_fusion()},
            _close,
            must=must,
        )
    yield Case(
        "weighted_boxes_fusion",
        f"weighted_boxes_fusion, {MODELS} models x 20 boxes, in Python",
        partial(_of_models, 20),
        call(_fuse, ops.weighted_boxes_fusion),
        {"plain PyTorch": call(_fuse, reference.weighted_boxes_fusion)},
        _close,
    )


def _of_models(n: int) -> tuple[Tensor, ...]:
    """Boxes [M, n, 4] in 0 to 1 of objects that all models find, scores and labels [M, n]."""
    g = torch.Generator().manual_seed(8)
    objects = inputs.boxes_like(n) / 1200
    boxes = (objects + torch.randn(MODELS, n, 4, generator=g) * 0.002).clamp(0, 1)
    labels = torch.randint(0, 80, (n,), generator=g).expand(MODELS, n)
    return boxes, torch.rand(MODELS, n, generator=g), labels


def _fuse(
    boxes: Tensor, scores: Tensor, labels: Tensor, fuse: Callable[..., tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    return fuse(list(boxes), list(scores), list(labels))


def _close(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], *_: Tensor) -> bool:
    """Theirs add up in float32, ours in float64."""
    if any(a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
        return False
    near = (torch.allclose(a, b.to(a.dtype), atol=1e-5) for a, b in zip(ours, theirs, strict=True))
    return all(near)
