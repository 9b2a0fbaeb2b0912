from collections.abc import Callable, Iterator
from functools import partial

import torch
import torchvision
from torch import Tensor

from detcore import ops

from .. import inputs, rivals
from ..case import Case, Contender, Must, call


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    plain = {"torchvision": call(iou_from_above)}
    yield _case("bev_iou", "1,000 x 1,000", 1000, plain, Must("times", 10, 30))
    # some seconds per call: not in the quick table
    loop = {"shapely": rivals.shapely_bev_iou()}
    yield _case(
        "bev_iou", "1,000 x 1,000, polygons", 1000, loop, Must("times", 100, 1000), quick=False
    )
    in_space = {"torchvision and z": call(iou_with_z)}
    yield _case("box3d_iou", "1,000 x 1,000", 1000, in_space, Must("times", 10, 30))
    yield _case("box3d_iou", "10 x 10", 10, in_space, Must("times", 1, 2))


def _case(
    op: str, size: str, n: int, peers: dict[str, Contender], must: Must, *, quick: bool = True
) -> Case:
    function: Callable[..., Tensor] = getattr(ops, op)
    return Case(
        "box3d_iou",
        f"{op} {size}",
        partial(_boxes, n),
        call(function),
        peers,
        _close,
        must=must,
        quick=quick,
    )


def _boxes(n: int) -> tuple[Tensor, Tensor]:
    return inputs.boxes_in_space(n, seed=6), inputs.boxes_in_space(n, seed=7)


def iou_from_above(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """torchvision's IoU of rotated boxes, whose y points down."""
    seen = [torch.cat((b[:, [0, 1, 3, 4]], b[:, 6:].rad2deg().neg()), 1) for b in (boxes1, boxes2)]
    return torchvision.ops.box_iou(*seen, fmt="cxcywhr")


def iou_with_z(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """The area of the intersection from that IoU, times the shared length of z."""
    iou = iou_from_above(boxes1, boxes2)
    a, b = boxes1[:, None], boxes2[None]
    areas = a[..., 3] * a[..., 4], b[..., 3] * b[..., 4]
    top = torch.minimum(a[..., 2] + a[..., 5] / 2, b[..., 2] + b[..., 5] / 2)
    bottom = torch.maximum(a[..., 2] - a[..., 5] / 2, b[..., 2] - b[..., 5] / 2)
    inter = iou * (areas[0] + areas[1]) / (1 + iou) * (top - bottom).clamp(min=0)
    return inter / (areas[0] * a[..., 5] + areas[1] * b[..., 5] - inter)


def _close(ours: Tensor, theirs: Tensor, *_: Tensor) -> bool:
    """torchvision's are wrong for a few pairs in a million (tests/ops/test_box_iou_rotated.py)."""
    apart = ~torch.isclose(ours, theirs, rtol=1e-4, atol=1e-4)
    return int(apart.sum()) <= 1e-5 * ours.numel()
