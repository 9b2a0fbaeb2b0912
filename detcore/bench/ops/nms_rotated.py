from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torchvision
from torch import Tensor

from detcore import ops

from .. import inputs
from ..case import Case, Must, call, equal

IOU = 0.3


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    yield _case("1,000 boxes", 1_000, Must("times", 10, 30))
    # torchvision's matrix takes half a minute: once, and not in the quick table
    yield _case("10,000 boxes", 10_000, Must("times", 100, 500), quick=False)
    yield _case("10 boxes", 10, Must("times", 1, 2))


def _case(work: str, n: int, must: Must, *, quick: bool = True) -> Case:
    return Case(
        "nms_rotated",
        f"nms_rotated {work}",
        partial(_boxes, n),
        replace(call(ops.nms_rotated, IOU), waits=True),
        {"torchvision's IoU and NumPy": call(by_matrix, IOU)},
        equal,
        must=must,
        quick=quick,
    )


def _boxes(n: int) -> tuple[Tensor, Tensor]:
    return inputs.rotated_boxes_like(n, 1000, 60), inputs.scores_like(n)


_rotated_iou = partial(torchvision.ops.box_iou, fmt="cxcywhr")


def by_matrix(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    iou_of: Callable[[Tensor, Tensor], Tensor] = _rotated_iou,
) -> Tensor:
    """What people write where their library has no suppression of such boxes."""
    order = scores.argsort(descending=True, stable=True)
    iou = iou_of(boxes[order], boxes[order]).cpu().numpy()
    alive = np.ones(len(iou), dtype=bool)
    for i in range(len(iou)):
        if alive[i]:
            alive[i + 1 :] &= iou[i, i + 1 :] <= iou_threshold
    return order[torch.from_numpy(alive).to(order.device)]
