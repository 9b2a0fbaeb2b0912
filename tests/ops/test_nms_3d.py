"""nms_3d and nms_bev: exactly greedy by our own IoU, whatever the places and classes of boxes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detcore import ops
from detcore.ops.samples import random_boxes_3d, scores_for
from detcore.reference.nms import greedy

from .conftest import FLOATS, Backend

IOU_OF: dict[str, Callable[..., Tensor]] = {"nms_3d": ops.box3d_iou, "nms_bev": ops.bev_iou}
Suppress = Callable[..., Tensor]


def suppression(name: str) -> Suppress:
    function: Suppress = getattr(ops, name)
    return function


def by_our_iou_3d(
    backend: Backend,
    name: str,
    boxes: Tensor,
    scores: Tensor,
    threshold: float,
    ids: Tensor | None = None,
) -> Tensor:
    """Greedy suppression by the IoUs that this backend gives."""
    iou = IOU_OF[name](backend(boxes), backend(boxes)).cpu().double()
    ids = torch.zeros(len(boxes)) if ids is None else ids
    valid = boxes.isfinite().all(-1) & ~scores.isnan()
    return greedy(scores, ids, valid, iou > threshold)


@pytest.mark.parametrize("name", IOU_OF)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 63, 64, 257, 1031])
def test_is_greedy_by_our_iou(backend: Backend, n: int, dtype: torch.dtype, name: str) -> None:
    if backend.simulated and n > 300 and dtype != torch.float32:
        pytest.skip("long in the simulator, and the same with fewer boxes")
    boxes, scores = random_boxes_3d(n, 10 * math.sqrt(n), seed=n).to(dtype), scores_for(n, n)
    for threshold, thin in ((0.0, 1), (0.1, 20), (0.4, 1)):
        some = boxes.clone()
        some[:, 4] /= thin
        for points in (scores.to(dtype), scores_for(n, n, levels=5)):
            want = by_our_iou_3d(backend, name, some, points, threshold)
            got = suppression(name)(backend(some), backend(points), threshold).cpu()
            assert got.dtype == torch.int64 and torch.equal(got, want), (threshold, thin)


def stacked(n: int) -> Tensor:
    boxes = random_boxes_3d(n, 5, 60)
    boxes[:, 2] = torch.arange(n) * 3.0
    return boxes


def far(n: int) -> Tensor:
    town = (torch.arange(n) % 2)[:, None]
    return random_boxes_3d(n, 200, 40) + 1e5 * town * torch.tensor([1.0, -1, 1, 0, 0, 0, 0])


def flat(n: int) -> Tensor:
    boxes = random_boxes_3d(n, 100, 40)
    boxes[:, 3:6] *= (torch.arange(3 * n).view(n, 3) % 7 > 0).double()
    return boxes


PLACES = {
    "a tower": stacked,
    "all in one place": lambda n: random_boxes_3d(n, 5, 60),
    "two towns": far,
    "long and thin": lambda n: random_boxes_3d(n, 1000, 1000, thin=1000),
    "without volume": flat,
}


@pytest.mark.parametrize("name", IOU_OF)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("n", [300, 3000])
def test_wherever_the_boxes_are(backend: Backend, n: int, place: str, name: str) -> None:
    if backend.simulated and n > 300 and (place, name) != ("two towns", "nms_3d"):
        pytest.skip("a minute each in the simulator; one place shows the path of many blocks")
    boxes, scores = PLACES[place](n).float(), scores_for(n).float()
    for threshold in (0.05, 0.3):
        got = suppression(name)(backend(boxes), backend(scores), threshold).cpu()
        assert torch.equal(got, by_our_iou_3d(backend, name, boxes, scores, threshold))


@pytest.mark.parametrize("name", IOU_OF)
@pytest.mark.parametrize("classes", [1, 3, 2000])
def test_classes_keep_apart(backend: Backend, classes: int, name: str) -> None:
    boxes, scores = random_boxes_3d(900, 200).float(), scores_for(900, 3).float()
    ids = (torch.arange(900) * 7919) % classes - 2**40
    want = by_our_iou_3d(backend, name, boxes, scores, 0.1, ids)
    for given in (ids, ids.double()):
        got = suppression(f"batched_{name}")(backend(boxes), backend(scores), backend(given), 0.1)
        assert torch.equal(got.cpu(), want)


@pytest.mark.parametrize("name", IOU_OF)
def test_more_boxes_than_one_block_takes(backend: Backend, name: str) -> None:
    boxes, scores = random_boxes_3d(5001, 700).float(), scores_for(5001).float()
    if not backend.simulated:
        got = suppression(name)(backend(boxes), backend(scores), 0.2).cpu()
        assert torch.equal(got, by_our_iou_3d(backend, name, boxes, scores, 0.2))
    # float64 leaves the one block earlier
    wide, points = boxes[:1100].double(), scores[:1100].double()
    got = suppression(name)(backend(wide), backend(points), 0.2).cpu()
    assert torch.equal(got, by_our_iou_3d(backend, name, wide, points, 0.2))


def test_edges(backend: Backend) -> None:
    box, nan, inf = [50.0, 50.0, 1.0, 60.0, 10.0, 2.0, 0.5], math.nan, math.inf
    above, flat = [50.0, 50.0, 9.0, *box[3:]], [*box[:5], 0.0, 0.5]
    boxes = torch.tensor(
        [box, box, [nan, *box[1:]], [*box[:6], inf], [*box[:2], nan, *box[3:]], above, flat, box]
    )
    scores = torch.tensor([0.5, 0.5, 0.9, 0.9, 0.9, 0.3, 0.1, nan])
    given = backend(boxes), backend(scores), 0.5
    # a tie goes to the lower index; no volume overlaps nothing; from above the height is no matter
    assert ops.nms_3d(*given).tolist() == [0, 5, 6]
    assert ops.nms_bev(*given).tolist() == [0]


@pytest.mark.parametrize("name", IOU_OF)
def test_wrong_arguments_are_named(backend: Backend, name: str) -> None:
    boxes, scores = backend(torch.ones(2, 7)), backend(torch.ones(2))
    with pytest.raises(ValueError, match=f"{name}: iou_threshold must be at least 0, got nan"):
        suppression(name)(boxes, scores, math.nan)
    with pytest.raises(ValueError, match=rf"{name}: boxes must be \[N, 7\], got \[2, 5\]"):
        suppression(name)(boxes[:, :5], scores, 0.5)
    with pytest.raises(TypeError, match=f"batched_{name}: idxs must be a tensor, got list"):
        suppression(f"batched_{name}")(boxes, scores, [0, 1], 0.5)
