"""paired_box_iou of rotated boxes: exact values, edges, gradients, formats."""

import math
import random

import pytest
import torch
from torch import Tensor

from detcore import ops, reference
from detcore.ops.samples import random_rotated_boxes

from .conftest import FLOATS, Backend
from .exact_polygons import exact_giou
from .test_box_iou_rotated import ROTATED, hard_pair, hard_pairs

KINDS = ("iou", "giou")


def pairs(n: int, seed: int = 0, thin: float = 20) -> tuple[Tensor, Tensor]:
    return random_rotated_boxes(n, 60, seed=seed, thin=thin), random_rotated_boxes(
        n, 60, seed=seed + 1, thin=thin
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1021])
def test_equals_reference(backend: Backend, n: int, dtype: torch.dtype, kind: str) -> None:
    a, b = (boxes.to(dtype) for boxes in pairs(n))
    got = ops.paired_box_iou(backend(a), backend(b), kind, fmt="cxcywhr").cpu()
    want = reference.paired_box_iou(a, b, kind, fmt="cxcywhr")
    assert got.dtype == want.dtype and got.shape == (n,)
    torch.testing.assert_close(got, want, rtol=0, atol=4e-6)
    # to the last bit
    turned = ops.paired_box_iou(backend(b), backend(a), kind, fmt="cxcywhr").cpu()
    assert torch.equal(turned, got)


@pytest.mark.parametrize(("thin", "most"), [(100, 1e-5), (10_000, 1e-4)])
def test_iou_is_right_to_five_digits(backend: Backend, thin: float, most: float) -> None:
    first, second, want = hard_pairs(400, thin)
    for dtype, bound in ((torch.float32, most), (torch.float64, 1e-9)):
        a, b = backend(first.to(dtype)), backend(second.to(dtype))
        got = ops.paired_box_iou(a, b, eps=0.0, fmt="cxcywhr").cpu()
        assert (got - want).abs().max() <= bound


@pytest.mark.parametrize(("thin", "most"), [(100, 1e-5), (10_000, 1e-4)])
def test_giou_is_right_to_five_digits(backend: Backend, thin: float, most: float) -> None:
    rng = random.Random(5)
    boxes = [hard_pair(rng, thin) for _ in range(300)]
    first, second = (torch.tensor(side) for side in zip(*boxes, strict=True))
    want = torch.tensor([exact_giou(a, b) for a, b in boxes], dtype=torch.float64)
    for dtype, bound in ((torch.float32, most), (torch.float64, 1e-9)):
        a, b = backend(first.to(dtype)), backend(second.to(dtype))
        got = ops.paired_box_iou(a, b, "giou", eps=0.0, fmt="cxcywhr").cpu()
        off = (got - want).abs()
        worst = off.argmax()
        assert off[worst] <= bound, (first[worst], second[worst], got[worst], want[worst])
        assert got.min() >= -1 and got.max() <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_values_worked_out_by_hand(backend: Backend, kind: str) -> None:
    square = [0.0, 0.0, 2.0, 2.0, 0.0]
    for other, iou, hull in (
        (square, 1.0, 4.0),
        ([0.0, 0.0, 2.0, 2.0, 90.0], 1.0, 4.0),
        ([0.0, 0.0, 2.0, 2.0, 45.0], math.sqrt(0.5), math.sqrt(32)),  # octagons inside and around
        ([0.0, 0.0, 1.0, 1.0, 30.0], 0.25, 4.0),  # inside
        ([3.0, 0.0, 2.0, 2.0, 0.0], 0.0, 10.0),  # beside
        ([3.0, 3.0, 2.0, 2.0, 0.0], 0.0, 25.0 - 9.0),  # across: a square less two corners
        # from x = -1 to 4 it widens from 2 to 4, then comes half of the other
        ([4.0, 0.0, math.sqrt(8), math.sqrt(8), 45.0], 0.0, 15.0 + 4.0),
    ):
        union = (4 + other[2] * other[3]) / (1 + iou)
        want = iou if kind == "iou" else iou - (hull - union) / hull
        for dtype in (torch.float32, torch.float64):
            a, b = (backend(torch.tensor(box, dtype=dtype)) for box in (square, other))
            got = ops.paired_box_iou(a, b, kind, fmt="cxcywhr").item()
            assert got == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 65, 500])
def test_gradient_equals_autograd_of_reference(backend: Backend, n: int, kind: str) -> None:
    a, b = (boxes.requires_grad_() for boxes in pairs(n, seed=3))
    grad = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    value = reference.paired_box_iou(a, b, kind, fmt="cxcywhr")
    want = torch.autograd.grad(value, (a, b), grad)
    for dtype, close in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        got = backend.native("paired_box_iou_backward")(
            *(backend(t.detach().to(dtype)) for t in (grad, a, b)), "cxcywhr", kind, 1e-7
        )
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g.cpu().double(), w, rtol=close, atol=close)


@pytest.mark.parametrize("fmt", ROTATED)
@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind: str, fmt: str) -> None:
    a, b = (ops.box_convert(x, "cxcywhr", fmt).requires_grad_() for x in pairs(8, seed=9))
    assert torch.autograd.gradcheck(lambda x, y: ops.paired_box_iou(x, y, kind, fmt=fmt), (a, b))


@pytest.mark.parametrize("fmt", [*ROTATED, "xywh", "cxcywh"])
def test_formats(backend: Backend, fmt: str) -> None:
    upright = [torch.rand(30, 4, dtype=torch.float64) * 50 + 1 for _ in range(2)]
    boxes = [ops.box_convert(x, "cxcywh", fmt) for x in upright]
    for kind in KINDS:
        # the hull of rotated boxes is not an upright box, even where their angles are 0
        native = "cxcywhr" if fmt in ROTATED else "xyxy"
        want = reference.paired_box_iou(
            *(ops.box_convert(x, "cxcywh", native) for x in upright), kind, fmt=native
        )
        got = ops.paired_box_iou(*map(backend, boxes), kind, fmt=fmt).cpu()
        torch.testing.assert_close(got, want, rtol=0, atol=1e-9)
        whole = [x.round().long() for x in boxes]
        if fmt != "xyxyxyxy":  # whole corners of a box are not a box's
            got = ops.paired_box_iou(*map(backend, whole), kind, fmt=fmt).cpu()
            want = ops.paired_box_iou(*(x.double() for x in whole), kind, fmt=fmt)
            torch.testing.assert_close(got.double(), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_edges(backend: Backend, kind: str) -> None:
    whole = [0.0, 0.0, 4.0, 2.0, 30.0]
    for k in range(5):
        for odd in (math.nan, math.inf, -math.inf):
            broken = torch.tensor([odd if i == k else v for i, v in enumerate(whole)])
            a, b = backend(torch.tensor(whole)), backend(broken)
            for pair in ((a, b), (b, a)):
                assert ops.paired_box_iou(*pair, kind, fmt="cxcywhr").isnan()
    # a box without width is a line, a negative side counts as 0
    for side in (0.0, -3.0):
        line = torch.tensor([0.0, 5.0, 4.0, side, 30.0], requires_grad=True)
        value = ops.paired_box_iou(torch.tensor(whole), line, kind, fmt="cxcywhr")
        want = 0.0 if kind == "iou" else exact_giou(whole, [0.0, 5.0, 4.0, 1e-30, 30.0])
        assert value.item() == pytest.approx(want, abs=1e-6)
        (gradient,) = torch.autograd.grad(value, line)
        assert gradient.isfinite().all() and gradient[3] == 0
    # a long line beside a small box: which corner is farthest is told by its angle alone
    small, long = [295.0, 217.0, 0.64, 1.99, -179.7], [203.0, 20.0, 401.0, 0.0, 90.0]
    value = ops.paired_box_iou(
        *(backend(torch.tensor(box, dtype=torch.float64)) for box in (small, long)), kind,
        fmt="cxcywhr",
    )  # fmt: skip
    want = 0.0 if kind == "iou" else exact_giou(small, long)
    assert value.item() == pytest.approx(want, abs=1e-9)
    both = (torch.tensor([box], dtype=torch.float64) for box in (small, long))
    assert reference.paired_box_iou(*both, kind, fmt="cxcywhr").item() == pytest.approx(want)
    point = backend(torch.zeros(5))
    for eps in (0.0, 1e-7):
        assert ops.paired_box_iou(point, point, kind, eps, fmt="cxcywhr") == 0


def test_wrong_calls_are_named(backend: Backend) -> None:
    a = backend(torch.ones(7, 5))
    for boxes, kind, fmt, words in (
        (a, "diou", "cxcywhr", "paired_box_iou: kind of rotated boxes must be one of iou, giou, "
         "got 'diou'"),
        (a, "iou", "xyxy", "paired_box_iou: boxes1 must be [..., 4], got [7, 5]"),
        (a, "iou", "xyxyxyxy", "paired_box_iou: boxes of 'xyxyxyxy' must be [..., 8], got [7, 5]"),
        (a, "iou", "xyr", "paired_box_iou: fmt must be one of xyxy, xywh, cxcywh, xywhr, cxcywhr, "
         "xyxyxyxy, got 'xyr'"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as raised:
            ops.paired_box_iou(boxes, boxes, kind, fmt=fmt)
        assert str(raised.value) == words
