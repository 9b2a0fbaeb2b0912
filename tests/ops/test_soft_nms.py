import math

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from detcore import ops, reference
from detcore.ops._native import _C

from .conftest import FLOATS, Backend, random_boxes
from .test_nms import HARD, scores_for

METHODS = ("linear", "gaussian")
SIZES = [0, 1, 2, 3, 31, 63, 64, 65, 127, 128, 129, 193, 257, 509]


def check(backend: Backend, boxes: Tensor, scores: Tensor, **settings) -> tuple[Tensor, Tensor]:
    """The same selection and scores as the reference; with linear, the same bits."""
    keep, decayed = ops.soft_nms(backend(boxes), backend(scores), **settings)
    want, want_scores = reference.soft_nms(boxes, scores, **settings)
    assert keep.dtype == torch.int64 and decayed.dtype == scores.dtype
    assert torch.equal(keep.cpu(), want)
    if settings.get("method", "linear") == "linear":
        assert torch.equal(decayed.cpu(), want_scores)
    else:  # implementations of exp differ in the last bits
        tight = {torch.float32: 1e-5, torch.float64: 1e-13}.get(scores.dtype, 1e-2)
        torch.testing.assert_close(decayed.cpu(), want_scores, rtol=tight, atol=0)
    return keep, decayed


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", SIZES)
def test_equals_reference(backend: Backend, n: int, method: str) -> None:
    if backend.simulated and n > 260:
        pytest.skip("minutes of fibers")
    for extent, side in ((100, 40), (1000, 60)):
        boxes, scores = random_boxes(n, extent, side).float(), scores_for(n).float()
        check(backend, boxes, scores, method=method)
        check(backend, boxes, scores, method=method, min_score=0.2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_dtype(backend: Backend, dtype: torch.dtype, method: str) -> None:
    boxes, scores = random_boxes(150).to(dtype), scores_for(150).to(dtype)
    check(backend, boxes, scores, method=method)
    check(backend, boxes, scores.double(), method=method)
    check(backend, boxes.float(), scores, method=method)


def test_ties_go_to_the_lower_index(backend: Backend) -> None:
    n = 300
    scores = torch.full((n,), 0.5)
    keep, _ = check(backend, random_boxes(n, 5000, 2).float(), scores)
    assert keep.tolist() == sorted(keep.tolist()) and len(keep) == n
    check(backend, random_boxes(n, 200, 30).float(), scores_for(n, levels=4).float())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.0])
def test_thresholds_hit_exactly(backend: Backend, threshold: float, method: str) -> None:
    """Integer boxes whose exact IoU is the threshold: 3/5 at 0.6, 3/10 at 0.3."""
    boxes = torch.tensor([[0, 0, 5, 1], [0, 0, 3, 1], [10, 0, 20, 1], [10, 0, 13, 1]]).float()
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    check(backend, boxes, scores, iou_threshold=threshold, method=method)


def test_by_hand(backend: Backend) -> None:
    boxes = torch.tensor([[0.0, 0, 4, 1], [0, 0, 2, 1], [9, 9, 10, 10]])  # IoU 1/2
    scores = torch.tensor([0.5, 0.75, 0.25])
    keep, decayed = ops.soft_nms(backend(boxes), backend(scores))
    assert keep.tolist() == [1, 0, 2] and decayed.tolist() == [0.75, 0.25, 0.25]
    keep, decayed = ops.soft_nms(backend(boxes), backend(scores), iou_threshold=0.5)
    assert decayed.tolist() == [0.75, 0.5, 0.25]
    keep, decayed = ops.soft_nms(backend(boxes), backend(scores), min_score=0.26)
    assert keep.tolist() == [1] and decayed.tolist() == [0.75]
    _, decayed = ops.soft_nms(backend(boxes), backend(scores), sigma=0.25, method="gaussian")
    assert decayed.tolist() == pytest.approx([0.75, 0.25, 0.5 * math.exp(-1)])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", HARD)
def test_hard_inputs(backend: Backend, name: str, method: str) -> None:
    n = 140 if backend.simulated else 400
    check(backend, HARD[name](n).float(), scores_for(n).float(), method=method)


@pytest.mark.parametrize("seed", range(5))
def test_random_shapes(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for _ in range(4):
        n = int(torch.randint(1, 200 if backend.simulated else 600, (1,), generator=g))
        extent, side = (10 ** (torch.rand(2, generator=g) * 3)).tolist()
        threshold, least = torch.rand(2, generator=g).mul(0.5).tolist()
        boxes = random_boxes(n, extent, side, seed, whole=bool(n % 2)).float()
        scores = scores_for(n, seed, levels=100 if n % 3 else None).float()
        check(backend, boxes, scores, iou_threshold=threshold, min_score=least)


@pytest.mark.parametrize("method", METHODS)
def test_nan_and_odd_scores(backend: Backend, method: str) -> None:
    boxes, scores = random_boxes(200, 60).float(), scores_for(200).float()
    boxes[5, 0] = boxes[70, 3] = scores[9] = scores[199] = math.nan
    scores[20], scores[30], scores[40] = math.inf, -1.0, -math.inf
    keep, _ = check(backend, boxes, scores, method=method)
    assert not {5, 70, 9, 199, 30, 40} & set(keep.tolist()) and keep[0] == 20
    nothing = torch.full((5, 4), math.nan)
    keep, decayed = ops.soft_nms(backend(nothing), backend(torch.ones(5)), method=method)
    assert keep.shape == decayed.shape == (0,)


def test_zero_scores_stay_where_asked_and_the_removed_never_return(backend: Backend) -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9]]).repeat(70, 1)
    scores = scores_for(70).float()
    keep, decayed = check(backend, boxes, scores, min_score=0.0)
    assert sorted(keep.tolist()) == list(range(70)) and decayed[1:].eq(0).all()
    keep, _ = check(backend, boxes, scores, min_score=1e-30)
    assert len(keep) == 1


def test_min_score_is_compared_as_a_double(backend: Backend) -> None:
    boxes = torch.arange(3.0)[:, None] * 100 + torch.tensor([0.0, 0, 1, 1])
    scores = torch.tensor([0.1, 0.1, 0.2])  # 0.1 as a float is above 0.1
    for least in (0.1, 0.10000000149011612, 0.10000000149011613, 1e300):
        check(backend, boxes, scores, min_score=least)


def test_instruction_sets_agree_to_the_bit() -> None:
    boxes, scores = random_boxes(700, 300, 60).float(), scores_for(700).float()
    widest = _C.isa()
    found = []
    try:
        for isa in _C.build_facts()["instruction_sets"].split():
            _C.set_isa(isa)
            found.append(ops.soft_nms(boxes, scores, method="gaussian"))
    finally:
        _C.set_isa(widest)
    for keep, decayed in found[1:]:
        assert torch.equal(keep, found[0][0]) and torch.equal(decayed, found[0][1])


def test_not_contiguous(backend: Backend) -> None:
    boxes, scores = random_boxes(150).float(), scores_for(150).float()
    want = ops.soft_nms(backend(boxes), backend(scores))
    strided = backend(boxes.t().contiguous()).t(), backend(scores.repeat_interleave(2))[::2]
    got = ops.soft_nms(*strided)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


@pytest.mark.slow
def test_many_boxes() -> None:
    boxes, scores = random_boxes(5000, 1000, 60).float(), scores_for(5000).float()
    keep, decayed = ops.soft_nms(boxes, scores)
    want = reference.soft_nms(boxes, scores)
    assert torch.equal(keep, want[0]) and torch.equal(decayed, want[1])


def test_opcheck() -> None:
    boxes, scores = random_boxes(20).float(), scores_for(20).float()
    for method in METHODS:
        opcheck(torch.ops.detcore.soft_nms, (boxes, scores, 0.3, 0.5, 0.001, method))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b, s: ops.soft_nms(b[:, :3], s), "boxes must be [N, 4], got [7, 3]"),
        (lambda b, s: ops.soft_nms(b, s[:6]), "scores must be [7], one per box, got [6]"),
        (lambda b, s: ops.soft_nms(b, s, -0.5), "iou_threshold must be at least 0, got -0.5"),
        (lambda b, s: ops.soft_nms(b, s, math.nan), "iou_threshold must be at least 0, got nan"),
        (lambda b, s: ops.soft_nms(b, s, sigma=0.0), "sigma must be positive, got 0"),
        (lambda b, s: ops.soft_nms(b, s, min_score=-1), "min_score must be at least 0, got -1"),
        (
            lambda b, s: ops.soft_nms(b, s, method="hard"),
            "method must be one of linear, gaussian, got 'hard'",
        ),
        (
            lambda b, s: ops.soft_nms(b.long(), s),
            "boxes must be float32, float64, float16 or bfloat16, got int64",
        ),
        (
            lambda b, s: ops.soft_nms(b, s.int()),
            "scores must be float32, float64, float16 or bfloat16, got int32",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        call(random_boxes(7).float(), scores_for(7).float())
    assert str(raised.value) == f"soft_nms: {words}"
