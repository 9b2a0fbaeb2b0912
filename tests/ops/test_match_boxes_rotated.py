"""match_boxes of rotated boxes: the best by our own IoU, which other tests hold to exact values."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from detcore import ops, reference
from detcore.ops.samples import random_rotated_boxes
from detcore.reference.match_boxes import match_by_iou

from .conftest import FLOATS, Backend
from .test_match_boxes import SIZES, same


def by_our_iou(backend: Backend, gt: Tensor, anchors: Tensor) -> tuple[Tensor, ...]:
    iou = ops.box_iou(backend(gt), backend(anchors), "cxcywhr").cpu()
    return match_by_iou(iou, gt, anchors)


def match(backend: Backend, gt: Tensor, anchors: Tensor, *offsets: Tensor) -> ops.BoxMatches:
    return ops.match_boxes(backend(gt), backend(anchors), *map(backend, offsets))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("m", "n"), SIZES)
def test_is_the_best_by_our_iou(backend: Backend, m: int, n: int, dtype: torch.dtype) -> None:
    if backend.simulated and m * n > 20_000 and dtype != torch.float32:
        pytest.skip("long in the simulator, and the same with fewer boxes")
    for seed, whole in ((0, False), (1, True)):
        gt, anchors = (random_rotated_boxes(k, seed=seed + k, thin=10) for k in (m, n))
        if whole:  # so that many tie
            gt, anchors = ((boxes / 20).round() * 20 for boxes in (gt, anchors))
        gt, anchors = gt.to(dtype), anchors.to(dtype)
        want = by_our_iou(backend, gt, anchors)
        same(match(backend, gt, anchors), want)
        gt_t, anchors_t = (backend(b.t().contiguous()).t() for b in (gt, anchors))
        same(ops.match_boxes(gt_t, anchors_t), want)


def test_equals_reference(backend: Backend) -> None:
    gt, anchors = random_rotated_boxes(30, seed=1), random_rotated_boxes(900, seed=2)
    got, want = match(backend, gt, anchors), reference.match_boxes(gt, anchors)
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=0, atol=1e-9)


@pytest.mark.parametrize("extent", [10.0, 100.0, 3000.0])
def test_many_chunks(backend: Backend, extent: float) -> None:
    n = 3000 if backend.simulated else 20_011
    gt = random_rotated_boxes(20, extent, 40).float()
    anchors = random_rotated_boxes(n, extent, 40, seed=3, thin=30).float()
    same(match(backend, gt, anchors), by_our_iou(backend, gt, anchors))


def test_images(backend: Backend) -> None:
    gt, anchors = random_rotated_boxes(40, 60).float(), random_rotated_boxes(1500, 60).float()
    gt_at, anchor_at = [0, 5, 5, 18, 19, 40], [0, 700, 800, 800, 901, 1500]
    own = [
        by_our_iou(backend, gt[g:h], anchors[a:b])
        for (g, h), (a, b) in zip(*map(itertools.pairwise, (gt_at, anchor_at)), strict=True)
    ]
    offsets = torch.tensor(gt_at), torch.tensor(anchor_at)
    same(match(backend, gt, anchors, *offsets),
         tuple(torch.cat(parts) for parts in zip(*own, strict=True)))  # fmt: skip
    shared = match(backend, gt, anchors, offsets[0])
    for image, (g, h) in enumerate(itertools.pairwise(gt_at)):
        want = by_our_iou(backend, gt[g:h], anchors)
        assert torch.equal(shared.gt_of_anchor[image].cpu(), want[0])
        assert torch.equal(shared.anchor_of_gt[g:h].cpu(), want[2])


def test_all_equal_boxes_tie_and_the_lowest_index_wins(backend: Backend) -> None:
    box = torch.tensor([[20.0, 30, 9, 4, 33]])
    got = match(backend, box.repeat(3, 1), box.repeat(4500, 1))
    assert got.gt_of_anchor.eq(0).all() and got.anchor_of_gt.tolist() == [0, 0, 0]
    assert (got.iou_of_gt - 1).abs().max() <= 1e-6
    assert got.is_best_for_some_gt.all()


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 0.0, -3.0])
def test_odd_boxes(backend: Backend, odd: float) -> None:
    for number in range(5):
        gt, anchors = random_rotated_boxes(6, 50).float(), random_rotated_boxes(300, 50).float()
        gt[[0, 3], number] = odd
        anchors[[0, 17, 299], number] = odd
        got = match(backend, gt, anchors)
        same(got, by_our_iou(backend, gt, anchors))
        if math.isnan(odd):
            assert got.anchor_of_gt[[0, 3]].tolist() == [-1, -1]
            assert got.gt_of_anchor[[0, 17, 299]].tolist() == [-1, -1, -1]
    nothing = torch.full((5, 5), odd)
    for a, b in ((nothing, anchors), (gt, nothing), (nothing, nothing)):
        same(match(backend, a, b), by_our_iou(backend, a, b))


def test_mixed_and_integer_boxes() -> None:
    gt, anchors = (random_rotated_boxes(n, seed=n).round() for n in (5, 90))
    want = tuple(ops.match_boxes(gt.float(), anchors.float()))
    same(ops.match_boxes(gt.long(), anchors.long()), want)
    same(ops.match_boxes(gt.half(), anchors.float()), want)


def test_wrong_shapes_are_named(backend: Backend) -> None:
    four, five = backend(torch.ones(7, 4)), backend(torch.ones(7, 5))
    for gt, anchors, words in (
        (five, four, "anchors must be [N, 5], got [7, 4]"),
        (four, five, "anchors must be [N, 4], got [7, 5]"),
        (five[0], five, "gt must be [N, 4], got [5]"),
    ):
        with pytest.raises(ValueError) as raised:
            ops.match_boxes(gt, anchors)
        assert str(raised.value) == f"match_boxes: {words}"
