from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from torch import Tensor

from detcore import ops

from .. import inputs, rivals
from ..case import Case, Contender, Must, call, equal
from .box3d_iou import iou_from_above, iou_with_z
from .nms_rotated import by_matrix

IOU = 0.1


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    plain = {"torchvision's IoU and NumPy": call(by_matrix, IOU, iou_from_above)}
    in_space = {"torchvision's IoU and NumPy": call(by_matrix, IOU, iou_with_z)}
    loop = {"shapely": rivals.shapely_nms_bev(IOU)}
    yield _case("nms_bev", "1,000 boxes", 1_000, plain, Must("times", 10, 30))
    yield _case("nms_bev", "1,000 boxes, polygons", 1_000, loop, Must("times", 100, 1000))
    yield _case("nms_3d", "1,000 boxes", 1_000, in_space, Must("times", 10, 30))
    yield _case("nms_bev", "10 boxes", 10, plain, Must("times", 1, 2))


def _case(op: str, work: str, n: int, peers: dict[str, Contender], must: Must) -> Case:
    function: Callable[..., Tensor] = getattr(ops, op)
    return Case(
        "nms_3d",
        f"{op} {work}",
        partial(_boxes, n),
        replace(call(function, IOU), waits=True),
        peers,
        equal,
        must=must,
    )


def _boxes(n: int) -> tuple[Tensor, Tensor]:
    return inputs.boxes_in_space(n), inputs.scores_like(n)
