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
    # of positive area, and inside the image: the rival turns, clips or drops others
    objects = inputs.boxes_like(n) + torch.tensor([50, 50, 80, 80])
    boxes = (objects + torch.randn(MODELS, n, 4, generator=g) * 2) / 1300
    labels = torch.randint(0, 80, (n,), generator=g).expand(MODELS, n)
    # all different: which of equal scores comes first is left open there
    scores = (torch.randperm(MODELS * n, generator=g) + 1) / (MODELS * n)
    return boxes, scores.view(MODELS, n), labels


def _fuse(
    boxes: Tensor, scores: Tensor, labels: Tensor, fuse: Callable[..., tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    return fuse(list(boxes), list(scores), list(labels))


def _close(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], *_: Tensor) -> bool:
    """Theirs add up in float32, ours in float64, so that nearly equal scores may change places."""
    if ours[0].shape != theirs[0].shape or not torch.allclose(ours[1], theirs[1], atol=1e-5):
        return False
    by_place = ((label + box[:, 0].double()).argsort() for box, _, label in (ours, theirs))
    pairs = zip(ours, theirs, strict=True)
    mine, other = by_place
    return all(torch.allclose(a[mine], b[other].to(a.dtype), atol=1e-5) for a, b in pairs)
