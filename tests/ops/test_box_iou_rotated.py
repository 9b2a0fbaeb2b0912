"""IoU of rotated boxes: exact values, boxes that others get wrong, edges, gradients, formats."""

import math
import random
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from detcore import ops, reference
from detcore.ops.samples import random_rotated_boxes

from .conftest import FLOATS, Backend
from .exact_polygons import exact_iou
from .peers import tv

ROTATED = ("cxcywhr", "xywhr", "xyxyxyxy")


def iou_of(backend: Backend, box1: list[float], box2: list[float], dtype=torch.float32) -> float:
    a, b = (backend(torch.tensor([box], dtype=dtype)) for box in (box1, box2))
    return ops.box_iou(a, b, "cxcywhr").item()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("n", "m"), [(0, 5), (5, 0), (1, 1), (63, 65), (64, 257), (17, 1031)])
def test_equals_reference(backend: Backend, n: int, m: int, dtype: torch.dtype) -> None:
    a, b = (random_rotated_boxes(k, seed=k, thin=50).to(dtype) for k in (n, m))
    got = ops.box_iou(backend(a), backend(b), "cxcywhr").cpu()
    want = reference.box_iou(a, b, "cxcywhr")
    assert got.dtype == want.dtype and got.shape == (n, m)
    torch.testing.assert_close(got, want, rtol=0, atol=2e-6)
    # to the last bit, also across rows that are compared by other lanes
    turned = ops.box_iou(backend(b), backend(a), "cxcywhr").cpu()
    assert torch.equal(turned.T, got)


def hard_pair(rng: random.Random, thin: float) -> tuple[list[float], list[float]]:
    """Two boxes up to `thin` times as long as wide, often in a special position to each other."""

    def box() -> list[float]:
        long = 10 ** rng.uniform(0, 3)
        sides = [long, long / thin ** rng.random()]
        rng.shuffle(sides)
        return [rng.uniform(-9, 9), rng.uniform(-9, 9), *sides, rng.uniform(-360, 360)]

    def single(box: list[float]) -> list[float]:  # as a float32 holds it
        return torch.tensor(box).tolist()

    a = single(box())
    x, y, w, h, angle = a
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    along = rng.choice([0, 0.5, 1, -1, 2, rng.random()])
    across = rng.choice([0, 0.5, 1, -1, rng.random()])
    near = [x + along * w * cos + across * h * sin, y - along * w * sin + across * h * cos]
    other = box()
    b = rng.choice([
        [*near, *other[2:]],  # anywhere near
        [*near, w, h, angle],  # equal sides, so that corners or sides may meet
        [*near, other[2], other[3], angle + rng.choice([0, 90, 180, -90])],  # parallel edges
        [x, y, w, h, angle + rng.choice([90, 180, 270, 1e-3, 1e-6])],
        [x, y, h, w, angle + rng.choice([90, -90, 270])],  # the same box
        [x, y, w * rng.random(), h * rng.random(), angle + rng.uniform(-1, 1)],  # inside
        [x * (1 + 1e-6), y, w * (1 + 1e-6), h, angle * (1 - 1e-6)],
    ])  # fmt: skip
    return a, single(b)


@cache
def hard_pairs(count: int, thin: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of boxes [count, 5] each, and their exact IoUs."""
    rng = random.Random(int(thin))
    pairs = [hard_pair(rng, thin) for _ in range(count)]
    first, second = (torch.tensor(boxes) for boxes in zip(*pairs, strict=True))
    return first, second, torch.tensor([exact_iou(a, b) for a, b in pairs], dtype=torch.float64)


@pytest.mark.parametrize(("thin", "most"), [(100, 1e-5), (10_000, 1e-4)])
@pytest.mark.parametrize(
    "count", [400, pytest.param(50_000, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_is_right_to_five_digits(backend: Backend, count: int, thin: float, most: float) -> None:
    if backend.simulated and count > 1000:
        pytest.skip("the same as with few, for hours")
    first, second, want = hard_pairs(count, thin)
    for dtype, bound in ((torch.float32, most), (torch.float64, 1e-9)):
        a, b = backend(first.to(dtype)[:, None]), backend(second.to(dtype)[:, None])
        got = ops.box_iou(a, b, "cxcywhr").flatten().cpu().double()
        off = (got - want).abs()
        worst = off.argmax()
        assert off[worst] <= bound, (first[worst], second[worst], got[worst], want[worst])
        assert got.min() >= 0 and got.max() <= 1


@pytest.mark.parametrize("thin", [1, 10, 10_000])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_a_box_and_itself(backend: Backend, offset: float, thin: float) -> None:
    angles = torch.linspace(-360, 360, 97, dtype=torch.float64)
    one = torch.ones_like(angles)
    boxes = torch.stack((offset * one, -offset * one, thin * one, one, angles), 1)
    swapped = torch.stack((offset * one, -offset * one, one, thin * one, angles + 90), 1)
    for dtype in (torch.float32, torch.float64):
        a = backend(boxes.to(dtype)[:, None])
        got = ops.box_iou(a, a, "cxcywhr")
        assert (got - 1).abs().max() <= 1e-6
        # turned by the rounding error of the angle, the thinnest float32 box is another one
        if thin < 1000 or dtype == torch.float64:
            b = backend(swapped.to(dtype)[:, None])
            assert (ops.box_iou(a, b, "cxcywhr") - 1).abs().max() <= 1e-4


DEGREES = 180 / math.pi
THIN = [1.3507e02, 4.0672e02, 7.9445e-7, 1.9711e3, 1.7708 * DEGREES]


@pytest.mark.parametrize(
    ("box1", "box2", "want"),
    [
        # mmcv#2621 gave 0.333
        ([0.0, 0.0, 180.6422271729, 136.3633728027, 0.9559648633 * DEGREES],) * 2 + (1.0,),
        # mmcv#2952 gave -12,128,368
        (THIN, [151.008, 436.2173, 302.0159, 313.7347, 3.1184 * DEGREES], 0.0),
        # detectron2#1207 gave 0.2655, #4961 0.3688
        ([160.0, 153.0, 230.0, 23.0, -37.0], [190.0, 127.0, 80.0, 21.0, -46.0], None),
        ([1010.5, 860.00012207, 12.20655537, 48.82622528, 55.00798035],
         [1022, 870.49993896, 10.81665134, 43.26660919, 56.30992889], None),
        # detectron2#2154 gave 0.600, #2167 0.5848
        ([296.6620178, 458.7388305, 23.5157299, 47.6770019, 0.0879516],
         [296.66201, 458.73882, 23.51573, 47.67702, 0.087951], 1.0),
        ([2563.744628, 1436.790161, 2174.703369, 214.095001, 115.118347],
         [2563.744628, 1436.790283, 2174.702881, 214.094955, 115.118354], 1.0),
        # RRPN#44 gave 1.35 (radians)
        ([46.83, 44.03, 3.9, 1.63, 0.0], [46.83, 44.03, 1.63, 3.9, 1.45 * DEGREES], None),
        # a long thin box and the same moved along itself: torchvision 0.29 gives 0.329
        ([0.0, 0.0, 1000.0, 0.1, 17.0],
         [10 * math.cos(17 / DEGREES), -10 * math.sin(17 / DEGREES), 1000.0, 0.1, 17.0], 0.980198),
        # two of a million random pairs of the benchmark: torchvision 0.29 gives 0.178 and 0.5622
        ([0.7934051752090454, 4.951992034912109, 121.50293731689453, 130.65638732910156,
          93.58802032470703],
         [6.073756217956543, 7.6903557777404785, 55.09327697753906, 124.99737548828125,
          97.93756103515625], 0.423443),
        ([8.982601165771484, 4.021144866943359, 100.0578384399414, 106.54752349853516,
          12.2242431640625],
         [5.224905490875244, 3.7841391563415527, 61.17839050292969, 126.51195526123047,
          259.7957763671875], 0.553466),
    ],
)  # fmt: skip
def test_boxes_that_others_got_wrong(
    backend: Backend, box1: list[float], box2: list[float], want: float | None
) -> None:
    if want is None:
        want = exact_iou(*torch.tensor([box1, box2]).tolist())
    for a, b in ((box1, box2), (box2, box1)):
        assert iou_of(backend, a, b) == pytest.approx(want, abs=1e-5)


def test_the_angle_turns_as_torchvisions(backend: Backend) -> None:
    a, b = (random_rotated_boxes(40, seed=s).float() for s in (1, 2))
    got = ops.box_iou(backend(a), backend(b), "cxcywhr").cpu()
    torch.testing.assert_close(got, tv.box_iou(a, b, "cxcywhr"), rtol=0, atol=1e-4)


def test_edges(backend: Backend) -> None:
    whole, inf, nan = [0.0, 0.0, 4.0, 2.0, 30.0], math.inf, math.nan
    assert iou_of(backend, whole, [0.0, 0.0, 0.0, 2.0, 30.0]) == 0
    assert iou_of(backend, whole, [0.0, 0.0, -4.0, 2.0, 30.0]) == 0
    assert iou_of(backend, [0.0] * 5, [0.0] * 5) == 0
    for k in range(5):
        for odd in (nan, inf, -inf):
            broken = [odd if i == k else v for i, v in enumerate(whole)]
            assert math.isnan(iou_of(backend, whole, broken))
            assert math.isnan(iou_of(backend, broken, whole))
    # sides that touch share no area
    assert iou_of(backend, [0.0, 0.0, 4.0, 2.0, 0.0], [4.0, 0.0, 4.0, 2.0, 180.0]) == 0
    # a row of far boxes beside a near one, whatever vector they are in
    far = torch.tensor([whole] * 9) + torch.arange(9.0)[:, None] * torch.tensor([99.0, 0, 0, 0, 0])
    got = ops.box_iou(backend(far[:1]), backend(far), "cxcywhr").cpu()
    assert torch.equal(got, torch.eye(9)[:1])


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (1, 1), (5, 67), (65, 6)])
def test_gradient_equals_autograd_of_reference(backend: Backend, n: int, m: int) -> None:
    a, b = (random_rotated_boxes(k, 60, seed=s).requires_grad_() for s, k in ((3, n), (4, m)))
    grad = torch.randn(n, m, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    want = torch.autograd.grad(reference.box_iou(a, b, "cxcywhr"), (a, b), grad)
    for dtype, close in ((torch.float64, 1e-9), (torch.float32, 2e-4)):
        got = backend.native("box_iou_rotated_backward")(
            *(backend(t.detach().to(dtype)) for t in (grad, a, b))
        )
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g.cpu().double(), w, rtol=close, atol=close)


def test_gradcheck() -> None:
    a, b = (random_rotated_boxes(6, 50, seed=s).requires_grad_() for s in (9, 10))
    for fmt in ROTATED:
        first, second = (
            ops.box_convert(x.detach(), "cxcywhr", fmt).requires_grad_() for x in (a, b)
        )
        assert torch.autograd.gradcheck(partial(ops.box_iou, fmt=fmt), (first, second))


def test_gradient_where_there_is_none(backend: Backend) -> None:
    """Of equal boxes half of either side's, so 0; of boxes apart and without area 0."""
    boxes = [[0.0, 0.0, 4.0, 2.0, 30.0], [50.0, 0.0, 4.0, 2.0, 30.0], [0.0, 0.0, 0.0, 2.0, 30.0]]
    for dtype in (torch.float32, torch.float64):
        a, b = torch.tensor(boxes[:1], dtype=dtype), torch.tensor(boxes, dtype=dtype)
        got = backend.native("box_iou_rotated_backward")(
            backend(torch.ones(1, 3, dtype=dtype)), backend(a), backend(b)
        )
        for g in got:
            torch.testing.assert_close(g.cpu(), torch.zeros_like(g.cpu()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("fmt", ROTATED)
def test_formats(backend: Backend, fmt: str) -> None:
    centred = [random_rotated_boxes(n, seed=n) for n in (13, 29)]
    a, b = (backend(ops.box_convert(boxes, "cxcywhr", fmt)) for boxes in centred)
    want = reference.box_iou(*centred, "cxcywhr")
    torch.testing.assert_close(ops.box_iou(a, b, fmt).cpu(), want, rtol=0, atol=1e-9)
    out = backend(torch.full((13, 29), -1.0, dtype=torch.float64))
    assert ops.box_iou(a, b, fmt, out=out) is out
    torch.testing.assert_close(out.cpu(), want, rtol=0, atol=1e-9)
    batched = ops.box_iou(a.expand(2, 3, *a.shape), b.expand(2, 3, *b.shape), fmt)
    assert batched.shape == (2, 3, 13, 29)
    torch.testing.assert_close(batched[1, 2].cpu(), want, rtol=0, atol=1e-9)


def test_whole_numbers_are_taken_too(backend: Backend) -> None:
    boxes = random_rotated_boxes(20, 200, 90).round()
    want = reference.box_iou(boxes, boxes, "cxcywhr").float()
    for dtype in (torch.int32, torch.int64):
        whole = backend(boxes.to(dtype))
        got = ops.box_iou(whole, whole, "cxcywhr").cpu()
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_area_and_upright_boxes() -> None:
    upright = torch.tensor([[10.0, 20.0, 14.0, 26.0]])
    for fmt in ROTATED:
        turned = ops.box_convert(upright, "xyxy", fmt)
        assert ops.box_area(turned, fmt).item() == pytest.approx(24)
        assert ops.box_iou(turned, turned, fmt).item() == pytest.approx(1)
    assert ops.box_convert(upright, "xyxy", "cxcywhr").tolist() == [[12.0, 23.0, 4.0, 6.0, 0.0]]


@pytest.mark.parametrize(
    ("boxes", "fmt", "words"),
    [
        (torch.zeros(7, 4), "cxcywhr", r"box_iou: boxes1 must be \[..., 5\], got \[7, 4\]"),
        (torch.zeros(7, 5), "xyxyxyxy", r"box_iou: boxes of 'xyxyxyxy' must be \[..., 8\]"),
        (torch.zeros(7, 4), "xywhr", r"box_iou: boxes of 'xywhr' must be \[..., 5\], got \[7, 4\]"),
        (torch.zeros(5), "cxcywhr", r"box_iou: boxes1 must be \[..., N, 5\], got \[5\]"),
    ],
)
def test_wrong_shapes_are_named(backend: Backend, boxes: Tensor, fmt: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ops.box_iou(backend(boxes), backend(boxes), fmt)
