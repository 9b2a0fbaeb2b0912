"""points_in_boxes: the reference's values whatever the sizes and places, borders, odd numbers."""

import math

import pytest
import torch
from torch import Tensor

from detcore import ops, reference
from detcore.ops.samples import random_boxes_3d

from .conftest import FLOATS, Backend

BOX = [10.0, 20.0, 1.0, 4.0, 2.0, 2.0, 0.0]


def cloud(n: int, extent: float = 100, seed: int = 0) -> Tensor:
    """[n, 3] float64 points over the boxes of random_boxes_3d."""
    g = torch.Generator().manual_seed(seed + n)
    part = torch.rand(n, 3, generator=g, dtype=torch.float64)
    return part * torch.tensor([1.2 * extent, 1.2 * extent, 50.0])


def check(backend: Backend, points: Tensor, boxes: Tensor) -> Tensor:
    """Compares with the reference, and returns the box of each point."""
    got = ops.points_in_boxes(backend(points), backend(boxes))
    want = reference.points_in_boxes(points, boxes)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == torch.int64 and torch.equal(ours.cpu(), theirs)
    return got.box_of_point.cpu()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("p", "n"), [(0, 3), (3, 0), (1, 1), (7, 65), (257, 31), (1000, 64), (3001, 200)]
)
def test_equals_reference(backend: Backend, p: int, n: int, dtype: torch.dtype) -> None:
    if backend.simulated and p > 1000 and dtype != torch.float32:
        pytest.skip("long in the simulator, and the same with fewer points")
    boxes, points = random_boxes_3d(n, seed=n, thin=20).to(dtype), cloud(p).to(dtype)
    found = check(backend, points, boxes)
    if p > 200:
        assert (found == -1).any() and found.unique().numel() > 5


@pytest.mark.parametrize(
    "place", ["apart", "in one place", "a giant among many", "two towns", "far from the origin"]
)
def test_wherever_the_boxes_are(backend: Backend, place: str) -> None:
    n, p = (300, 600) if backend.simulated else (700, 5000)
    side, extent = (2.0, 300.0) if place == "apart" else (40.0, 100.0)
    boxes = random_boxes_3d(n, 5 if place == "in one place" else extent, side)
    points = cloud(p, extent)
    # points that are surely in some box
    points[: p // 2] = boxes[torch.arange(p // 2) % n, :3] + 0.1 * points[: p // 2].sin()
    shift = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    if place == "a giant among many":
        boxes[n // 2, 3:6] = 1e4
    if place == "two towns":
        boxes[::2, :3] += 1e5 * shift
        points[::3] += 1e5 * shift
    if place == "far from the origin":
        boxes[:, :3] += 1e6 * shift
        points += 1e6 * shift
    for dtype in (torch.float32, torch.float64):
        found = check(backend, points.to(dtype), boxes.to(dtype))
        assert (found >= 0).double().mean() > 0.2


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_border_is_inside(backend: Backend, dtype: torch.dtype) -> None:
    centre, half = torch.tensor(BOX[:3]), torch.tensor(BOX[3:6]) / 2
    steps = torch.tensor([-1.25, -1.0, 0.0, 1.0, 1.25])
    at = torch.cartesian_prod(steps, steps, steps)
    points = (centre + at * half).to(dtype)
    want = (at.abs() <= 1).all(1)
    found = ops.points_in_boxes(backend(points), backend(torch.tensor([BOX], dtype=dtype)))
    assert torch.equal(found.box_of_point.cpu() == 0, want)
    assert found.points_of_box.tolist() == [27]


def test_yaw_turns_counter_clockwise(backend: Backend) -> None:
    """A beam along (1, 1) holds (11, 21) and not (11, 19)."""
    beam = torch.tensor([[10.0, 20.0, 1.0, 8.0, 0.5, 2.0, math.pi / 4]])
    points = torch.tensor([[11.0, 21.0, 1.0], [11.0, 19.0, 1.0], [9.0, 19.0, 1.0], [9.0, 21.0, 1]])
    found = ops.points_in_boxes(backend(points), backend(beam))
    assert found.box_of_point.tolist() == [0, -1, 0, -1]


def test_the_lowest_box_and_all_counts(backend: Backend) -> None:
    small, large = [*BOX[:3], 1.0, 1.0, 1.0, 0.0], [*BOX[:3], 9.0, 9.0, 9.0, 0.0]
    boxes = torch.tensor([small, BOX, large, BOX])
    points = torch.tensor([BOX[:3], [11.5, 20.0, 1.0], [13.0, 20.0, 1.0], [99.0, 20.0, 1.0]])
    found = ops.points_in_boxes(backend(points), backend(boxes))
    assert found.box_of_point.tolist() == [0, 1, 2, -1]
    assert found.points_of_box.tolist() == [1, 2, 3, 2]


def test_odd_numbers_take_no_part(backend: Backend) -> None:
    odd, boxes, points = (math.nan, math.inf, -math.inf), [BOX], [BOX[:3]]
    boxes += [[v if i == k else b for i, b in enumerate(BOX)] for k in range(7) for v in odd]
    boxes += [[v if i == k else b for i, b in enumerate(BOX)] for k in (3, 4, 5) for v in (0, -1)]
    points += [[v if i == k else b for i, b in enumerate(BOX[:3])] for k in range(3) for v in odd]
    for order in (1, -1):
        found = ops.points_in_boxes(
            backend(torch.tensor(points[::order])), backend(torch.tensor(boxes[::order]))
        )
        of_point, of_box = (t.tolist()[::order] for t in found)
        assert of_point[0] == (0 if order == 1 else len(boxes) - 1)
        assert set(of_point[1:]) == {-1} and of_box == [1] + [0] * (len(boxes) - 1)
    none = ops.points_in_boxes(backend(torch.tensor(points)), backend(torch.tensor(boxes[1:])))
    assert none.box_of_point.max() == -1 and none.points_of_box.max() == 0


def test_numbers_at_the_ends_of_the_range(backend: Backend) -> None:
    """Boxes so far apart that their distance overflows, and so small that 1 / side does."""
    most, wide = 1e308, torch.float64
    boxes = torch.tensor(
        [[most, 0, 0, 1, 1, 1, 0], [-most, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1e-307, 1, 1, 0]],
        dtype=wide,
    )
    points = torch.tensor([[most, 0, 0], [-most, 0, 0], [0, 0.1, 0], [1, 0, 0]], dtype=wide)
    assert check(backend, points, boxes).tolist() == [0, 1, 2, -1]
    assert check(backend, points, boxes[:2]).tolist() == [0, 1, -1, -1]
    assert check(backend, points, boxes[2:]).tolist() == [-1, -1, 0, -1]


def test_leading_dimensions_and_dtypes(backend: Backend) -> None:
    boxes = torch.stack([random_boxes_3d(9, seed=s) for s in range(6)]).view(2, 3, 9, 7)
    points = torch.stack([cloud(50, seed=s) for s in range(6)]).view(2, 3, 50, 3)
    got = ops.points_in_boxes(backend(points), backend(boxes.float()))
    assert got.box_of_point.shape == (2, 3, 50) and got.points_of_box.shape == (2, 3, 9)
    for i in range(2):
        for j in range(3):
            want = reference.points_in_boxes(points[i, j], boxes[i, j].float())
            assert torch.equal(got.box_of_point[i, j].cpu(), want[0])
            assert torch.equal(got.points_of_box[i, j].cpu(), want[1])
    whole = ops.points_in_boxes(backend(points.long()), backend(boxes.long()))
    want = reference.points_in_boxes(points.long(), boxes.long())
    assert torch.equal(whole.box_of_point.cpu(), want[0])


@pytest.mark.parametrize(
    ("points", "boxes", "words"),
    [
        ((5, 4), (3, 7), r"points must be \[..., 3\], got \[5, 4\]"),
        ((5, 3), (3, 5), r"boxes must be \[..., 7\], got \[3, 5\]"),
        ((3,), (3, 7), r"points must be \[..., P, 3\], got \[3\]"),
        ((2, 5, 3), (3, 7), r"the same leading dimensions, got \[2, 5, 3\] and \[3, 7\]"),
    ],
)
def test_wrong_shapes_are_named(
    backend: Backend, points: tuple[int, ...], boxes: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=f"points_in_boxes: .*{words}"):
        ops.points_in_boxes(backend(torch.zeros(points)), backend(torch.zeros(boxes)))
