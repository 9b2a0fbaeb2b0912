from collections.abc import Iterator
from functools import partial
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
    yield Case(
        "match_boxes",
        "match_boxes 100 x 10,000, rotated",
        lambda: (inputs.rotated_boxes_like(100), inputs.rotated_boxes_like(10_000, seed=9)),
        call(ops.match_boxes),
        {"torchvision": call(partial(_matrix_and_max, fmt="cxcywhr"))},
        _nearly,
        must=Must("times", 10, 30),
    )


def _nearly(ours: ops.BoxMatches, theirs: tuple[Tensor, ...], *_: Tensor) -> bool:
    """torchvision's IoUs of rotated boxes have rounding errors, which may choose another box."""
    return torch.allclose(ours.iou_of_anchor, theirs[1], atol=1e-4) and torch.allclose(
        ours.iou_of_gt, theirs[3], atol=1e-4
    )


def _matrix_and_max(gt: Tensor, anchors: Tensor, fmt: str = "xyxy") -> tuple[Tensor, ...]:
    iou = torchvision.ops.box_iou(gt, anchors, fmt=fmt)
    of_anchor, of_gt = iou.max(dim=0), iou.max(dim=1)
    return of_anchor.indices, of_anchor.values, of_gt.indices, of_gt.values
