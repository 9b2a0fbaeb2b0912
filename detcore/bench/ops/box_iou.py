from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import torch
import torchvision
from torch import Tensor

from detcore import ops

from .. import inputs, rivals
from ..case import Case, Contender, Function, Must, call

KINDS = {
    "box_iou": "parallel_iou_distance",  # powerboxes' name for it
    "generalized_box_iou": "parallel_giou_distance",
    "distance_box_iou": "diou_distance",
    "complete_box_iou": "ciou_distance",
}


def close(ours: Tensor, theirs: Tensor, *_: Tensor) -> bool:
    """Whether two [N, M] results agree within 1e-4."""
    return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    square, wide = partial(_boxes, 4096, 4096), partial(_boxes, 100, 200_000)
    iou, kin = Must("limit", 1.3, 1.05), Must("limit", 1.6, 1.2)
    for kind in KINDS:
        yield _case(kind, "4,096 x 4,096", square, iou if kind == "box_iou" else kin)
    yield _case("box_iou", "100 x 200,000", wide, iou)
    into = Must("limit", 3, 1.6)
    yield _case("box_iou", "4,096 x 4,096, out=", square, into, out=True)
    yield _case("box_iou", "100 x 200,000, out=", wide, into, out=True)
    for kind in list(KINDS)[1:]:
        yield _case(kind, "4,096 x 4,096, out=", square, None, out=True, quick=False)
    for kind in KINDS:
        yield _case(kind, "10 x 10", partial(_boxes, 10, 10), Must("times", 1, 2), limit=False)


def _boxes(n: int, m: int) -> tuple[Tensor, Tensor]:
    return inputs.boxes_like(n), inputs.boxes_like(m, seed=4)


def _case(
    kind: str,
    size: str,
    make: partial[tuple[Tensor, Tensor]],
    must: Must | None,
    *,
    out: bool = False,
    limit: bool = True,
    quick: bool = True,
) -> Case:
    theirs = getattr(torchvision.ops, kind)
    others = {
        "torchvision": call(theirs),
        "torch.compile": rivals.compiled(theirs),
        "powerboxes": rivals.powerboxes_iou(KINDS[kind]),
    }
    return Case(
        "box_iou",
        f"{kind} {size}",
        partial(_with_out, make) if out else make,
        Contender(partial(_into, getattr(ops, kind))) if out else call(getattr(ops, kind)),
        {name: _of_boxes(rival) for name, rival in others.items()},
        close,
        limit=Contender(_fill if out else _full) if limit else None,
        must=must,
        new_pages=limit and not out,
        quick=quick,
    )


def _with_out(make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """One output for ours and for the limit: how its pages lie decides how fast either can be."""
    a, b = make()
    return a, b, a.new_empty(len(a), len(b))


def _of_boxes(rival: Contender) -> Contender:
    return replace(rival, prepare=lambda a, b, *_: rival.prepare(a, b))


def _into(function: Callable[..., Tensor], a: Tensor, b: Tensor, out: Tensor) -> Function:
    return partial(function, a, b, out=out)


def _fill(a: Tensor, b: Tensor, out: Tensor) -> Function:
    return partial(out.fill_, 1.0)


def _full(a: Tensor, b: Tensor) -> Function:
    return partial(torch.full, (len(a), len(b)), 1.0, device=a.device)
