"""nms_rotated: exactly greedy by our own IoU, whatever the sizes, places and classes of boxes."""

import math

import pytest
import torch
from torch import Tensor

from detcore import ops
from detcore.ops.samples import random_rotated_boxes, scores_for
from detcore.reference.nms import greedy

from .conftest import FLOATS, Backend


def by_our_iou(
    backend: Backend, boxes: Tensor, scores: Tensor, threshold: float, ids: Tensor | None = None
) -> Tensor:
    """Greedy suppression by the IoUs that `box_iou` gives on this backend."""
    iou = ops.box_iou(backend(boxes), backend(boxes), "cxcywhr").cpu().double()
    ids = torch.zeros(len(boxes)) if ids is None else ids
    valid = boxes.isfinite().all(-1) & ~scores.isnan()
    return greedy(scores, ids, valid, iou > threshold)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 257, 1031])
def test_is_greedy_by_our_iou(backend: Backend, n: int, dtype: torch.dtype) -> None:
    if backend.simulated and n > 300 and dtype != torch.float32:
        pytest.skip("long in the simulator, and the same with fewer boxes")
    boxes, scores = random_rotated_boxes(n, 10 * math.sqrt(n), seed=n).to(dtype), scores_for(n, n)
    for threshold, thin in ((0.0, 1), (0.1, 20), (0.5, 1)):
        some = boxes.clone()
        some[:, 3] /= thin
        for points in (scores.to(dtype), scores.float(), scores_for(n, n, levels=5)):
            want = by_our_iou(backend, some, points, threshold)
            got = ops.nms_rotated(backend(some), backend(points), threshold).cpu()
            assert got.dtype == torch.int64 and torch.equal(got, want), (threshold, thin)


PLACES = {
    "all in one place": lambda n: random_rotated_boxes(n, 5, 60),
    "two towns": lambda n: (
        random_rotated_boxes(n, 200, 40)
        + 1e5 * (torch.arange(n) % 2)[:, None] * torch.tensor([1.0, 0, 0, 0, 0])
    ),
    "sizes over many decades": lambda n: (
        random_rotated_boxes(n, 1, 1)
        * torch.cat((torch.logspace(-3, 4, n)[:, None].expand(n, 4), torch.ones(n, 1)), 1)
    ),
    "one giant among many": lambda n: torch.cat(
        (torch.tensor([[500.0, 500, 3000, 2000, 20]]), random_rotated_boxes(n - 1, 1000, 20))
    ),
    "long and thin": lambda n: random_rotated_boxes(n, 1000, 1000, thin=1000),
    "without area": lambda n: (
        random_rotated_boxes(n, 100, 40)
        * torch.cat(
            (torch.ones(n, 3), (torch.arange(n)[:, None] % 3).double(), torch.ones(n, 1)), 1
        )
    ),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("n", [300, 3000])
def test_wherever_the_boxes_are(backend: Backend, n: int, place: str) -> None:
    if backend.simulated and n > 300 and place != "two towns":
        pytest.skip("a minute each in the simulator; one place shows the path of many blocks")
    boxes, scores = PLACES[place](n).float(), scores_for(n).float()
    for threshold in (0.05, 0.5):
        got = ops.nms_rotated(backend(boxes), backend(scores), threshold).cpu()
        assert torch.equal(got, by_our_iou(backend, boxes, scores, threshold))


@pytest.mark.parametrize("classes", [1, 3, 80, 2000])
def test_classes_keep_apart(backend: Backend, classes: int) -> None:
    boxes, scores = random_rotated_boxes(1200, 300).float(), scores_for(1200, 3).float()
    ids = (torch.arange(1200) * 7919) % classes - 2**40
    want = by_our_iou(backend, boxes, scores, 0.2, ids)
    for given in (ids, ids.double()):
        got = ops.batched_nms_rotated(backend(boxes), backend(scores), backend(given), 0.2)
        assert torch.equal(got.cpu(), want)


def test_more_boxes_than_one_block_takes(backend: Backend) -> None:
    boxes, scores = random_rotated_boxes(9001, 900).float(), scores_for(9001).float()
    if not backend.simulated:
        got = ops.nms_rotated(backend(boxes), backend(scores), 0.3).cpu()
        assert torch.equal(got, by_our_iou(backend, boxes, scores, 0.3))
    # float64 leaves the one block earlier
    wide, points = boxes[:1500].double(), scores[:1500].double()
    got = ops.nms_rotated(backend(wide), backend(points), 0.3).cpu()
    assert torch.equal(got, by_our_iou(backend, wide, points, 0.3))


def test_edges(backend: Backend) -> None:
    box, nan, inf = [50.0, 50.0, 60.0, 10.0, 30.0], math.nan, math.inf
    boxes = torch.tensor([box, box, [nan, *box[1:]], [*box[:4], inf], [*box[:3], 0.0, 30.0], box])
    scores = torch.tensor([0.5, 0.5, 0.9, 0.9, 0.1, nan])
    got = ops.nms_rotated(backend(boxes), backend(scores), 0.5)
    assert got.tolist() == [0, 4]  # a tie goes to the lower index; no area overlaps nothing
    # an angle of 180 degrees is the same box, of 90 with the sides exchanged too
    same = torch.tensor([box, [*box[:4], 210.0], [50.0, 50.0, 10.0, 60.0, 120.0]])
    assert ops.nms_rotated(backend(same), backend(torch.ones(3)), 0.99).tolist() == [0]


@pytest.mark.parametrize("threshold", [-0.1, math.nan])
def test_a_threshold_that_is_none(backend: Backend, threshold: float) -> None:
    boxes, scores = backend(torch.ones(2, 5)), backend(torch.ones(2))
    with pytest.raises(ValueError, match="nms_rotated: iou_threshold must be at least 0, got"):
        ops.nms_rotated(boxes, scores, threshold)
    with pytest.raises(TypeError, match="batched_nms_rotated: idxs must be a tensor, got list"):
        ops.batched_nms_rotated(boxes, scores, [0, 1], 0.5)  # type: ignore[arg-type]
