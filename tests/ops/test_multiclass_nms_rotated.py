"""multiclass_nms of rotated boxes: the same bits as the reference with our own IoU."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from detcore import ops, reference
from detcore.ops.samples import random_rotated_boxes

from .conftest import FLOATS, Backend
from .test_multiclass_nms import Found
from .test_nms_rotated import by_our_iou


def inputs_for(
    batch: int, n: int, classes: int, *, per_class: bool = False, levels: int | None = None
) -> tuple[Tensor, Tensor]:
    """float64 boxes [B, N, 5] or [B, N, C, 5], and scores."""
    boxes = random_rotated_boxes(batch * n * (classes if per_class else 1), thin=5)
    shape = (batch, n, classes, 5) if per_class else (batch, n, 5)
    g = torch.Generator().manual_seed(7 * n + classes)
    scores = torch.rand(batch, n, classes, generator=g, dtype=torch.float64)
    return boxes.reshape(shape), scores if levels is None else (scores * levels).floor() / levels


def check(backend: Backend, boxes: Tensor, scores: Tensor, *settings: float) -> Found:
    found = ops.multiclass_nms(backend(boxes), backend(scores), *settings)
    suppress = partial(by_our_iou, backend)
    want = reference.multiclass_nms(boxes, scores, *settings, suppress=suppress)
    for name, ours, theirs in zip(
        ("boxes", "scores", "labels", "counts"), found, want, strict=True
    ):
        assert ours.dtype == theirs.dtype and torch.equal(ours.cpu(), theirs), name
    return tuple(x.cpu() for x in found)  # type: ignore[return-value]


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(
    ("batch", "n", "classes"),
    [(1, 0, 3), (2, 5, 0), (0, 4, 3), (1, 1, 1), (2, 2, 3), (1, 63, 1), (3, 65, 3), (1, 130, 7)],
)
def test_equals_reference(
    backend: Backend, batch: int, n: int, classes: int, per_class: bool
) -> None:
    boxes, scores = inputs_for(batch, n, classes, per_class=per_class)
    check(backend, boxes.float(), scores.float())
    if not backend.simulated or n < 70:
        check(backend, boxes.float(), scores.float(), 0.3, 0.1, 9, 5)
        check(backend, boxes, scores, -1.0, 0.7, 1000, 1000)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_dtype(backend: Backend, dtype: torch.dtype) -> None:
    boxes, scores = inputs_for(1, 90, 3)
    for b, s in (
        (boxes.to(dtype), scores.to(dtype)),
        (boxes.to(dtype), scores.float()),
        (boxes.float(), scores.to(dtype)),
    ):
        check(backend, b, s, 0.2, 0.4, 30, 20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_long_way(backend: Backend, dtype: torch.dtype) -> None:
    """Boxes suppress so many others that the best candidates of the image are not enough."""
    boxes, scores = inputs_for(2, 60 if backend.simulated else 400, 5)
    boxes = (boxes / 100 + torch.tensor([0.0, 0, 50, 50, 0])).to(dtype)
    for limit in (1, 2, 3, 6):
        for layout in (scores, scores.transpose(1, 2).contiguous().transpose(1, 2)):
            found = check(backend, boxes, layout.to(dtype), 0.01, 0.2, 30, limit)
            assert found[3].tolist() == [min(limit, 5)] * 2


def test_more_candidates_than_shared_memory_holds(backend: Backend) -> None:
    boxes, scores = inputs_for(1, 700 if backend.simulated else 2500, 2)
    boxes[..., :2] *= 20
    check(backend, boxes.float(), scores.float(), 0.01, 0.3, 2000, 900)


def test_ties_go_by_class_and_then_by_box(backend: Backend) -> None:
    boxes, scores = inputs_for(1, 80 if backend.simulated else 500, 4, levels=2)
    check(backend, boxes.float(), scores.float() + 0.1, 0.05, 0.5, 20, 60)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.0, -2.0])
def test_odd_boxes(backend: Backend, odd: float) -> None:
    boxes, scores = inputs_for(1, 50, 3, per_class=True)
    for number in range(5):
        boxes[0, 10 + number, 1, number] = odd
        scores[0, 10 + number] = 2.0
    found = check(backend, boxes.float(), scores.float(), 0.1, 0.5, 7, 20)
    assert found[0].isfinite().all()
    scores[0, 3, 0] = math.nan
    check(backend, boxes.float(), scores.float(), 0.1, 0.5, 7, 20)


def test_a_slice_is_read_in_place(backend: Backend) -> None:
    boxes, scores = inputs_for(2, 40, 3)
    wide = backend(torch.cat((boxes, torch.full((2, 40, 3), math.nan)), -1).float())
    want = ops.multiclass_nms(backend(boxes.float()), backend(scores.float()))
    for ours, theirs in zip(
        ops.multiclass_nms(wide[..., :5], backend(scores.float())), want, strict=True
    ):
        assert torch.equal(ours, theirs)
