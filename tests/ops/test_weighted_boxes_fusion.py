"""weighted_boxes_fusion: against the reference, ensemble-boxes' numbers, edges and errors."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from detcore import ops, reference

from .conftest import Backend, random_boxes

TYPES = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")
Lists = tuple[list[Tensor], list[Tensor], list[Tensor]]


def views(models: int, n: int, labels: int, seed: int = 0, noise: float = 3.0) -> Lists:
    """What `models` detectors say of the same n objects, float64; one more box from each."""
    g = torch.Generator().manual_seed(seed)
    objects = random_boxes(n, 200, 40, seed)
    boxes = [objects + torch.randn(n, 4, generator=g).double() * noise for _ in range(models)]
    scores = [torch.rand(n, generator=g, dtype=torch.float64) for _ in range(models)]
    label = torch.randint(0, labels, (n,), generator=g)
    return boxes, scores, [label * 7 - 3] * models


def fuse(backend: Backend, lists: Lists, *args: Any, **named: Any) -> tuple[Tensor, ...]:
    moved = [[backend(tensor) for tensor in tensors] for tensors in lists]
    return tuple(x.cpu() for x in ops.weighted_boxes_fusion(*moved, *args, **named))


def same(got: tuple[Tensor, ...], want: tuple[Tensor, ...], close: float = 1e-9) -> None:
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close)


@pytest.mark.parametrize("conf_type", TYPES)
@pytest.mark.parametrize(
    ("models", "n", "labels"),
    [(1, 0, 1), (1, 1, 1), (2, 1, 1), (3, 63, 2), (3, 65, 1), (5, 40, 9), (70, 5, 2)],
)
def test_equals_reference(
    backend: Backend, models: int, n: int, labels: int, conf_type: str
) -> None:
    lists = views(models, n, labels)
    weights = [0.5 + m % 4 for m in range(models)]
    for threshold, skip in ((0.55, 0.0), (0.2, 0.3), (0.9, 0.0)):
        settings = (weights, threshold, skip, conf_type)
        same(fuse(backend, lists, *settings), reference.weighted_boxes_fusion(*lists, *settings))


def test_many_fused_boxes_of_one_label(backend: Backend) -> None:
    lists = views(3, 150 if backend.simulated else 700, 1)
    same(fuse(backend, lists), reference.weighted_boxes_fusion(*lists))


@pytest.mark.parametrize("conf_type", TYPES)
def test_values_worked_out_by_hand(backend: Backend, conf_type: str) -> None:
    """Model 0 has weight 2 and sees both objects, model 1 weight 1 and sees the first."""
    lists = (
        [torch.tensor([[10.0, 10, 50, 50], [60, 60, 80, 80]]), torch.tensor([[16.0, 10, 56, 58]])],
        [torch.tensor([0.7, 0.2]), torch.tensor([0.2])],
        [torch.tensor([1, 1]), torch.tensor([1])],
    )
    # weighted scores 1.4 and 0.2 of the first object: its mean is an eighth of the way
    first = [10 + 6 / 8, 10.0, 50 + 6 / 8, 50 + 8 / 8]
    want = {
        "avg": [(1.4 + 0.2) / 2 * 2 / 3, 0.4 / 3],
        "max": [1.4 / 2, 0.4 / 2],
        "box_and_model_avg": [(1.4 + 0.2) / 3, 0.4 / 2 * 2 / 3],
        "absent_model_aware_avg": [(1.4 + 0.2) / 3, 0.4 / 3],
    }[conf_type]
    got = fuse(backend, lists, [2.0, 1.0], conf_type=conf_type)
    torch.testing.assert_close(got[0], torch.tensor([first, [60.0, 60, 80, 80]]))
    torch.testing.assert_close(got[1], torch.tensor(want))
    assert got[2].tolist() == [1, 1]


def test_ties_go_to_the_earlier_box(backend: Backend) -> None:
    box = torch.tensor([[0.0, 0, 10, 10]])
    beside = torch.tensor([[0.0, 4, 10, 14], [0, -4, 10, 6]])  # both overlap it equally
    lists = ([beside, box], [torch.tensor([0.5, 0.5]), torch.tensor([0.4])],
             [torch.zeros(2).long(), torch.zeros(1).long()])  # fmt: skip
    boxes = fuse(backend, lists, iou_threshold=0.3)[0]
    assert boxes[1].tolist() == [0, -4, 10, 6] and boxes[0, 1] < 4
    # equal scores by label, then as they came
    apart = torch.arange(6.0)[:, None] * 100 + torch.tensor([0.0, 0, 10, 10])
    labels = torch.tensor([5, 2, 5, 2, 9, -4])
    boxes, _, found = fuse(backend, ([apart], [torch.full((6,), 0.5)], [labels]))
    assert found.tolist() == [-4, 2, 2, 5, 5, 9]
    assert boxes[:, 0].tolist() == [500, 100, 300, 0, 200, 400]


def test_odd_boxes_and_scores(backend: Backend) -> None:
    boxes, scores, labels = views(3, 30, 2)
    for k, odd in enumerate((math.nan, math.inf, -math.inf)):
        boxes[k][3 * k, k] = odd
        scores[k][3 * k + 1] = odd
    boxes[0][20, 2] = boxes[0][20, 0]  # no area
    boxes[1][21, 2:] = boxes[1][21, :2] - 5  # turned inside out
    scores[2][22:25] = 0.0
    lists = (boxes, scores, labels)
    same(fuse(backend, lists), reference.weighted_boxes_fusion(*lists))
    nothing = fuse(backend, lists, skip_box_threshold=2.0)
    assert [x.shape[0] for x in nothing] == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_other_dtypes(backend: Backend, dtype: torch.dtype) -> None:
    boxes, scores, labels = views(3, 20, 2)
    lists = ([b.to(dtype) for b in boxes], [s.to(dtype) for s in scores], labels)
    got = fuse(backend, (*lists[:2], [own.int() for own in labels]))
    assert got[0].dtype == got[1].dtype == torch.float32 and got[2].dtype == torch.int64
    same(got, reference.weighted_boxes_fusion(*lists), 1e-5)


def test_any_number_of_threads() -> None:
    lists = views(4, 600, 30)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(ops.weighted_boxes_fusion(*lists))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


def test_arrays_are_taken_too() -> None:
    lists = views(2, 9, 2)
    arrays = [[tensor.numpy() for tensor in tensors] for tensors in lists]
    for ours, theirs in zip(
        ops.weighted_boxes_fusion(*arrays), ops.weighted_boxes_fusion(*lists), strict=True
    ):
        assert torch.equal(torch.as_tensor(ours), theirs)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": []}, "boxes must have a tensor per model, got none"),
        ({"scores": [torch.ones(3)]}, "scores must be 2 tensors, as boxes is, got 1"),
        ({"boxes": [torch.ones(3, 5)] * 2}, "boxes[0] must be [N, 4], got [3, 5]"),
        ({"labels": [torch.ones(3).long(), torch.ones(4).long()]},
         "labels[1] must be [3], one per box, got [4]"),
        ({"labels": [torch.ones(3)] * 2}, "labels[0] must be integers, got float32"),
        ({"weights": [1.0]}, "weights must be 2, one per model, got 1"),
        ({"weights": [1.0, 0.0]}, "weights must be positive and finite, got 0"),
        ({"iou_threshold": -0.5}, "iou_threshold must be at least 0, got -0.5"),
        ({"skip_box_threshold": math.nan}, "skip_box_threshold must be a number, got nan"),
        ({"conf_type": "mean"}, "conf_type must be one of avg, max, box_and_model_avg, "
         "absent_model_aware_avg, got 'mean'"),
    ],
)  # fmt: skip
def test_wrong_calls_are_named(change: dict[str, Any], words: str) -> None:
    call: dict[str, Any] = {
        "boxes": [torch.ones(3, 4)] * 2,
        "scores": [torch.ones(3)] * 2,
        "labels": [torch.ones(3).long()] * 2,
    }
    with pytest.raises(ValueError) as raised:
        ops.weighted_boxes_fusion(**{**call, **change})
    assert str(raised.value) == f"weighted_boxes_fusion: {words}"
