"""IoU of boxes in space, and from above: exact values, values by hand, edges, gradients."""

import math
import random
from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from detcore import ops, reference
from detcore.ops.samples import random_boxes_3d

from .conftest import FLOATS, Backend
from .exact_polygons import exact_bev_iou, exact_box3d_iou
from .test_box_iou_rotated import hard_pair

IOUS = ("box3d_iou", "bev_iou")
UNIT = [0.0, 0.0, 0.0, 4.0, 2.0, 2.0, 0.0]
QUARTER = math.pi / 2


def of(name: str, on: object = ops) -> Callable[..., Tensor]:
    function: Callable[..., Tensor] = getattr(on, name)
    return function


def pair(backend: Backend, box1: list[float], box2: list[float]) -> tuple[float, float]:
    """Their IoUs in space and from above."""
    a, b = (backend(torch.tensor([box], dtype=torch.float64)) for box in (box1, box2))
    return ops.box3d_iou(a, b).item(), ops.bev_iou(a, b).item()


@pytest.mark.parametrize("name", IOUS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (1, 1), (63, 65), (64, 257), (17, 1031)])
def test_equals_reference(backend: Backend, n: int, m: int, dtype: torch.dtype, name: str) -> None:
    a, b = (random_boxes_3d(k, seed=k, thin=50).to(dtype) for k in (n, m))
    got = of(name)(backend(a), backend(b)).cpu()
    want = of(name, reference)(a, b)
    assert got.dtype == want.dtype and got.shape == (n, m)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-6)
    # to the last bit, also across rows that are compared by other lanes
    assert torch.equal(of(name)(backend(b), backend(a)).cpu().T, got)


@pytest.mark.parametrize(
    ("box", "in_space", "from_above"),
    [
        (UNIT, 1.0, 1.0),
        ([2.0, 0, 0, 4, 2, 2, 0], 1 / 3, 1 / 3),  # half of it beside: 8 of 24
        ([0.0, 0, 1, 4, 2, 2, 0], 1 / 3, 1.0),  # half of it above
        ([0.0, 0, 0, 4, 2, 1, 0], 0.5, 1.0),  # half as high, about the same centre
        ([0.0, 0, 0.5, 4, 2, 1, 0], 0.5, 1.0),  # the upper half
        ([0.0, 0, 2, 4, 2, 2, 0], 0.0, 1.0),  # on top
        ([4.0, 0, 0, 4, 2, 2, 0], 0.0, 0.0),  # beside, touching
        ([0.0, 0, 0, 4, 2, 2, math.pi], 1.0, 1.0),
        ([0.0, 0, 0, 4, 2, 2, QUARTER], 8 / 24, 4 / 12),  # a cross: 2 x 2 of 8 + 8 - 4
        ([0.0, 0, 0, 2, 4, 2, QUARTER], 1.0, 1.0),
        ([0.0, 0, 0, 2, 4, 2, -QUARTER], 1.0, 1.0),
        # the corner at (2, 1) cut off by a square that stands on its corner, whose side passes
        # through (2, 0) and (1, 1): a triangle of sides 1 and 1 is left of it
        ([2.0, 1.0, 0, 2 * math.sqrt(0.5), 2 * math.sqrt(0.5), 2, math.pi / 4],
         0.5 / 9.5, 0.5 / 9.5),
        # yaw turns counter-clockwise from x to y: a beam from (0, 0) to (6, 6)
        ([3.0, 3.0, 0, 6 * math.sqrt(2), 0.2, 2, math.pi / 4], None, None),
    ],
)  # fmt: skip
def test_values_by_hand(
    backend: Backend, box: list[float], in_space: float | None, from_above: float | None
) -> None:
    got = pair(backend, UNIT, box)
    if in_space is None or from_above is None:
        # turned by the other angle the beam would miss the box
        assert min(got) > 1e-3 and pair(backend, UNIT, [*box[:6], -box[6]]) == (0, 0)
        in_space, from_above = exact_box3d_iou(UNIT, box), exact_bev_iou(UNIT, box)
    assert got == pytest.approx((in_space, from_above), abs=1e-12)
    assert pair(backend, box, UNIT) == got


def hard_pair_3d(rng: random.Random, thin: float) -> tuple[list[float], list[float]]:
    """Two boxes, often in a special position to each other in the plane and in z."""
    flat, other = hard_pair(rng, thin)
    z, height = rng.uniform(-9, 9), 10 ** rng.uniform(-1, 2)
    own = 10 ** rng.uniform(-1, 2)
    other_z, other_height = rng.choice([
        (z, height),
        (z + rng.uniform(-1, 1) * height, own),
        (z + (height + own) / 2 * rng.choice([1, -1, 1 - 1e-6]), own),  # touching
        (z + rng.choice([0.25, -0.25]) * height, height / 2),  # inside, ends at the same plane
        (z, height * (1 + 1e-6)),
        (z + 10 * height, height),
    ])  # fmt: skip

    def raised(box: list[float], z: float, height: float) -> list[float]:
        x, y, w, h, degrees = box
        numbers: list[float] = torch.tensor([x, y, z, w, h, height, math.radians(degrees)]).tolist()
        return numbers  # as float32 holds them

    return raised(flat, z, height), raised(other, other_z, other_height)


@cache
def hard_pairs_3d(count: int, thin: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Pairs of boxes [count, 7] each, and their exact IoUs by the function's name."""
    rng = random.Random(int(thin))
    pairs = [hard_pair_3d(rng, thin) for _ in range(count)]
    first, second = (torch.tensor(boxes) for boxes in zip(*pairs, strict=True))
    exact = {"box3d_iou": exact_box3d_iou, "bev_iou": exact_bev_iou}
    return first, second, {
        name: torch.tensor([iou(a, b) for a, b in pairs], dtype=torch.float64)
        for name, iou in exact.items()
    }  # fmt: skip


@pytest.mark.parametrize("name", IOUS)
@pytest.mark.parametrize(("thin", "most"), [(100, 1e-5), (10_000, 1e-4)])
@pytest.mark.parametrize(
    "count", [400, pytest.param(20_000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_is_right_to_five_digits(
    backend: Backend, count: int, thin: float, most: float, name: str
) -> None:
    if backend.simulated and count > 1000:
        pytest.skip("the same as with few, for hours")
    first, second, exact = hard_pairs_3d(count, thin)
    want = exact[name]
    assert (want > 0.01).double().mean() > 0.3
    for dtype, bound in ((torch.float32, most), (torch.float64, 1e-9)):
        a, b = backend(first.to(dtype)[:, None]), backend(second.to(dtype)[:, None])
        got = of(name)(a, b).flatten().cpu().double()
        off = (got - want).abs()
        worst = off.argmax()
        assert off[worst] <= bound, (first[worst], second[worst], got[worst], want[worst])
        assert got.min() >= 0 and got.max() <= 1


@pytest.mark.parametrize("name", IOUS)
@pytest.mark.parametrize("thin", [1, 10, 10_000])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_a_box_and_itself(backend: Backend, offset: float, thin: float, name: str) -> None:
    yaw = torch.linspace(-9, 9, 97, dtype=torch.float64)
    one = torch.ones_like(yaw)
    boxes = torch.stack(
        (offset * one, -offset * one, offset / 3 * one, thin * one, one, 0.3 * one, yaw), 1
    )
    swapped = boxes[:, [0, 1, 2, 4, 3, 5, 6]]
    swapped[:, 6] += QUARTER
    for dtype in (torch.float32, torch.float64):
        a = backend(boxes.to(dtype)[:, None])
        assert (of(name)(a, a) - 1).abs().max() <= 1e-6
        # turned by the rounding error of the angle, the thinnest float32 box is another one
        if thin < 1000 or dtype == torch.float64:
            b = backend(swapped.to(dtype)[:, None])
            assert (of(name)(a, b) - 1).abs().max() <= 1e-4


@pytest.mark.parametrize("name", IOUS)
def test_far_from_the_origin(backend: Backend, name: str) -> None:
    """By 2^20, where float32 holds eighths: the same boxes, moved, give the same bits."""
    boxes = (random_boxes_3d(60, 20, 10) * 8).round() / 8
    boxes[:, 6] = random_boxes_3d(60)[:, 6]
    moved = boxes + torch.tensor([1.0, -1, 1, 0, 0, 0, 0]) * 2**20
    for dtype in (torch.float32, torch.float64):
        a, b = backend(boxes.to(dtype)), backend(moved.to(dtype))
        assert (of(name)(a, a) > 0).double().mean() > 0.2
        assert torch.equal(of(name)(a, a), of(name)(b, b))


@pytest.mark.parametrize("turns", [1, 1000, 100_000])
def test_many_turns(turns: int) -> None:
    """A yaw of many turns is reduced with all digits of pi."""
    yaw = torch.tensor([0.3, 1.6, -2.0, 3.0], dtype=torch.float64) + turns * 2 * math.pi
    box = torch.tensor([[1.0, 2, 3, 40, 1, 2, 0.7]], dtype=torch.float64)
    boxes = torch.cat((box[:, :6].expand(4, 6), yaw[:, None]), 1)
    got = ops.bev_iou(boxes, box)[:, 0]
    want = [exact_bev_iou(b, box[0].tolist()) for b in boxes.tolist()]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-13)


def test_edges(backend: Backend) -> None:
    for k in (3, 4, 5):
        for side in (0.0, -2.0):
            flat = [side if i == k else v for i, v in enumerate(UNIT)]
            in_space, from_above = pair(backend, UNIT, flat)
            assert in_space == 0 and from_above == (k == 5)  # from above no height is needed
            assert pair(backend, flat, flat) == (0, float(k == 5))
    for k in range(7):
        for odd in (math.nan, math.inf, -math.inf):
            broken = [odd if i == k else v for i, v in enumerate(UNIT)]
            far = [9e9, *UNIT[1:]]
            for other in (UNIT, far, [*UNIT[:5], 0.0, 0.0]):
                assert all(map(math.isnan, pair(backend, other, broken)))
                assert all(map(math.isnan, pair(backend, broken, other)))


@pytest.mark.parametrize("name", IOUS)
@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (1, 1), (5, 67), (65, 6)])
def test_gradient_equals_autograd_of_reference(backend: Backend, n: int, m: int, name: str) -> None:
    a, b = (random_boxes_3d(k, 60, seed=s).requires_grad_() for s, k in ((3, n), (4, m)))
    grad = torch.randn(n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    want = torch.autograd.grad(of(name, reference)(a, b), (a, b), grad)
    for dtype, close in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        got = backend.native("box3d_iou_backward")(
            *(backend(t.detach().to(dtype)) for t in (grad, a, b)), name == "bev_iou"
        )
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g.cpu().double(), w, rtol=close, atol=close)


@pytest.mark.parametrize("name", IOUS)
def test_gradcheck(name: str) -> None:
    a, b = (random_boxes_3d(6, 50, seed=s).requires_grad_() for s in (9, 10))
    assert torch.autograd.gradcheck(of(name), (a, b))


def test_gradient_where_there_is_none(backend: Backend) -> None:
    """Of equal boxes half of either side's, so 0; of boxes apart and without volume 0."""
    boxes = torch.tensor([UNIT, [50.0, *UNIT[1:]], [0.0, 0, 9, *UNIT[3:]], [*UNIT[:5], 0.0, 0.0]])
    for dtype in (torch.float32, torch.float64):
        given = backend(boxes[:1].to(dtype)), backend(boxes.to(dtype))
        ones = backend(torch.ones(1, 4, dtype=dtype))
        for g in backend.native("box3d_iou_backward")(ones, *given, False):
            torch.testing.assert_close(g.cpu(), torch.zeros_like(g.cpu()), rtol=0, atol=1e-6)


def test_gradient_of_the_height_by_hand(backend: Backend) -> None:
    """The upper half of a box: only its bottom, which is inside, changes what they share."""
    unit, half = torch.tensor([UNIT]).double(), torch.tensor([[*UNIT[:2], 0.5, 4, 2, 1, 0.0]])
    ones = torch.ones(1, 1, dtype=torch.float64)
    of_unit, of_half = (
        g.cpu()[0]
        for g in backend.native("box3d_iou_backward")(
            backend(ones), backend(unit), backend(half.double()), False
        )
    )

    def slope(of_shared: float, of_heights: float) -> float:
        """Of shared / union, in units of the area: 1 / 2 of the lengths 2 and 1."""
        return of_shared / 2 - (of_heights - of_shared) / 4

    # their tops are one plane, which counts half
    assert of_half[2].item() == pytest.approx(slope(0.5 - 1, 0))
    assert of_half[5].item() == pytest.approx(slope(0.5 * (0.5 + 1), 1))
    assert of_unit[2].item() == pytest.approx(slope(0.5, 0))
    assert of_unit[5].item() == pytest.approx(slope(0.5 * 0.5, 1))


@pytest.mark.parametrize("name", IOUS)
def test_leading_dimensions_and_out(backend: Backend, name: str) -> None:
    a, b = random_boxes_3d(13, seed=1), random_boxes_3d(29, seed=2)
    want = of(name, reference)(a, b)
    out = backend(torch.full((13, 29), -1.0, dtype=torch.float64))
    assert of(name)(backend(a), backend(b), out=out) is out
    torch.testing.assert_close(out.cpu(), want, rtol=0, atol=1e-9)
    batched = of(name)(backend(a.expand(2, 3, 13, 7)), backend(b.expand(2, 3, 29, 7)))
    torch.testing.assert_close(batched.cpu(), want.expand(2, 3, 13, 29), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", IOUS)
def test_whole_numbers_and_two_dtypes(backend: Backend, name: str) -> None:
    boxes = random_boxes_3d(20, 100, 60).round()
    want = of(name, reference)(boxes, boxes)
    whole = backend(boxes.to(torch.int64))
    got = of(name)(whole, whole).cpu()
    torch.testing.assert_close(got, want.float(), rtol=0, atol=1e-6)
    out = backend(torch.zeros(20, 20))
    assert torch.equal(of(name)(whole, whole, out=out).cpu(), got)
    mixed = of(name)(backend(boxes.float()), backend(boxes)).cpu()
    torch.testing.assert_close(mixed, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", IOUS)
def test_wrong_arguments_are_named(backend: Backend, name: str) -> None:
    five, seven = backend(torch.zeros(3, 5)), backend(torch.zeros(3, 7))
    with pytest.raises(ValueError, match=rf"{name}: boxes1 must be \[..., 7\], got \[3, 5\]"):
        of(name)(five, seven)
    with pytest.raises(ValueError, match=rf"{name}: boxes2 must be \[..., M, 7\], got \[7\]"):
        of(name)(seven, seven[0])
    with pytest.raises(ValueError, match=f"{name}: out must not be given where gradients"):
        of(name)(seven.requires_grad_(), seven, out=backend(torch.zeros(3, 3)))


def test_second_derivative() -> None:
    a, b = (random_boxes_3d(2, 20, seed=s).requires_grad_() for s in (1, 2))
    for name in IOUS:
        assert torch.autograd.gradgradcheck(partial(of(name)), (a, b))
