from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor

from detcore import ops, reference

from .. import inputs
from ..case import Case, Contender, Function, Must, tensors_once
from .box_iou import close


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    for n, must in ((50_000, None), (10, Must("times", 1, 2))):
        for name in ("giou", "ciou"):
            loss = {"giou": "generalized_box_iou_loss", "ciou": "complete_box_iou_loss"}[name]
            yield Case(
                "paired_box_iou",
                f"{name} loss and gradient, {n:,} pairs",
                partial(_pairs, n),
                _step(getattr(ops, loss)),
                {"torchvision": _step(getattr(torchvision.ops, loss))},
                close,
                moved=_moves,
                must=must,
            )
    for n, must in ((50_000, Must("times", 5, 15)), (10, None)):
        yield Case(
            "paired_box_iou",
            f"giou loss and gradient, {n:,} rotated pairs",
            partial(_rotated_pairs, n),
            _step(partial(_rotated_loss, ops.paired_box_iou)),
            {"plain PyTorch": _step(partial(_rotated_loss, reference.paired_box_iou))},
            close,
            must=must,
        )


def _rotated_pairs(n: int) -> tuple[Tensor, Tensor]:
    return inputs.rotated_boxes_like(n, 20), inputs.rotated_boxes_like(n, 20, seed=5)


def _rotated_loss(
    iou: Callable[..., Tensor], boxes1: Tensor, boxes2: Tensor, reduction: str
) -> Tensor:
    assert reduction == "sum"
    return (1 - iou(boxes1, boxes2, "giou", fmt="cxcywhr")).sum()


def _pairs(n: int) -> tuple[Tensor, Tensor]:
    return inputs.boxes_like(n), inputs.boxes_like(n, seed=5)


def _moves(inputs: tuple[Any, ...], gradient: Any) -> int:
    """Forward boxes in, a number for each pair out; backward both in again, a gradient out."""
    number = len(inputs[0]) * inputs[0].element_size()
    return 2 * (tensors_once(inputs, None) + number) + tensors_once((), gradient)


def _step(loss: Callable[..., Tensor]) -> Contender:
    def prepare(a: Tensor, b: Tensor) -> Function:
        leaf = a.detach().clone().requires_grad_()
        return lambda: torch.autograd.grad(loss(leaf, b, reduction="sum"), leaf)[0]

    return Contender(prepare)
