from collections.abc import Iterator
from typing import Any

import torch
import torchvision
from torch import Tensor

from detcore import ops

from .. import inputs
from ..case import Case, Must, call

_boxes = inputs.boxes_like


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    works: tuple[tuple[str, Any, Must | None], ...] = (
        (
            "match_boxes 100 x 200,000",
            lambda: (_boxes(100), _boxes(200_000, seed=9)),
            Must("times", 60, 150),
        ),
        (
            "match_boxes 100 x an RPN's grid",
            lambda: (_boxes(100, 800, 200), inputs.rpn_anchors()),
            None,
        ),
        ("match_boxes 10 x 8,732", lambda: (_boxes(10), _boxes(8_732, seed=9)), None),
        ("match_boxes 10 x 10", lambda: (_boxes(10), _boxes(10, seed=9)), Must("times", 1, 2)),
    )
    for work, make, must in works:
        yield Case(
            "match_boxes",
            work,
            make,
            call(ops.match_boxes),
            {"torchvision": call(_matrix_and_max)},
            lambda ours, theirs, *_: all(map(torch.equal, ours[:4], theirs)),
            must=must,
        )


def _matrix_and_max(gt: Tensor, anchors: Tensor) -> tuple[Tensor, ...]:
    iou = torchvision.ops.box_iou(gt, anchors)
    of_anchor, of_gt = iou.max(dim=0), iou.max(dim=1)
    return of_anchor.indices, of_anchor.values, of_gt.indices, of_gt.values
