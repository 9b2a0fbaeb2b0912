"""Areas that convex polygons share."""

import numpy as np
import pytest

from detcore.data.oriented import corners_of, polygon_areas
from detcore.data.polygons import are_convex, convex_iou, hulls, shared_areas
from detcore.ops import box_iou

SQUARE = [0, 0, 10, 0, 10, 10, 0, 10]


def rows(*corners):
    return np.array(corners, np.float64)


@pytest.mark.parametrize(
    ("other", "wanted"),
    [
        (SQUARE, 100),
        (SQUARE[::-1], 100),  # x and y exchanged: the other way round
        ([5, 5, 15, 5, 15, 15, 5, 15], 25),
        ([10, 0, 20, 0, 20, 10, 10, 10], 0),  # a side in common
        ([10, 10, 20, 10, 20, 20, 10, 20], 0),  # a corner in common
        ([30, 0, 40, 0, 40, 10, 30, 10], 0),
        ([2, 2, 4, 2, 4, 4, 2, 4], 4),
        ([-5, -5, 20, -5, 20, 20, -5, 20], 100),
        ([5, 0, 10, 5, 5, 10, 0, 5], 50),
        ([0, 0, 20, 0, 0, 20, 0, 20], 100),  # a triangle through the corner
        ([0, 0, 10, 0, 0, 10, 0, 10], 50),
        ([-5, 5, 15, 5, 15, 5, -5, 5], 0),  # a line
        ([3, 3] * 4, 0),
        ([8, -4, 14, 2, 12, 4, 6, -2], 2),  # a corner of the square is cut off
    ],
)
def test_areas_by_hand(other, wanted):
    first, second = rows(SQUARE), rows(other)
    assert shared_areas(first, second) == pytest.approx([wanted], abs=1e-12)
    assert shared_areas(second, first) == pytest.approx([wanted], abs=1e-12)
    far = 2.0**20
    assert shared_areas(first + far, second + far) == pytest.approx([wanted], abs=1e-12)


def test_rectangles_share_what_the_kernel_says():
    rng = np.random.default_rng(0)
    one, other = (
        np.column_stack(
            [rng.uniform(0, 60, (40, 2)), rng.uniform(1, 50, (40, 2)), rng.uniform(-180, 180, 40)]
        )
        for _ in range(2)
    )
    wanted = box_iou(one, other, fmt="cxcywhr")
    assert convex_iou(corners_of(one), corners_of(other)) == pytest.approx(wanted, abs=1e-7)
    assert np.count_nonzero(wanted) > 300
    assert np.diag(convex_iou(corners_of(one), corners_of(one))) == pytest.approx(np.ones(40))


def test_quadrilaterals_share_what_a_grid_of_points_says():
    rng = np.random.default_rng(1)
    both = hulls(rng.uniform(0, 100, (60, 8)))
    first, second = both[:30], both[30:]
    at = np.arange(0.1, 100, 0.2)
    points = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)

    def inside(corners):
        corner = corners.reshape(4, 2)
        side = np.roll(corner, -1, axis=0) - corner
        off = points[:, None] - corner
        turn = side[:, 0] * off[..., 1] - side[:, 1] * off[..., 0]
        return (turn >= 0).all(1) | (turn <= 0).all(1)

    counted = [(inside(a) & inside(b)).sum() * 0.04 for a, b in zip(first, second, strict=True)]
    assert shared_areas(first, second) == pytest.approx(counted, abs=10)
    assert max(counted) > 1000


def test_no_pair_and_no_set():
    none = np.zeros((0, 8))
    assert shared_areas(none, none).shape == (0,)
    assert convex_iou(none, rows(SQUARE)).shape == (0, 1)
    assert convex_iou(rows([3, 3] * 4), rows([3, 3] * 4)).tolist() == [[0]]


@pytest.mark.parametrize(
    ("corners", "convex", "area"),
    [
        (SQUARE, True, 100),
        ([0, 0, 10, 10, 10, 0, 0, 10], False, 100),  # sides that cross
        ([0, 0, 10, 0, 3, 3, 0, 10], False, 50),  # a corner that points inward
        ([0, 0, 10, 0, 10, 10, 5, 5], True, 50),  # a corner on the line between its neighbours
        ([0, 0, 10, 0, 10, 0, 0, 10], True, 50),  # a corner twice
        ([0, 0, 10, 0, 5, 0, 5, 5], False, 25),  # it goes back along a side
    ],
)
def test_corners_that_are_convex_and_hulls(corners, convex, area):
    given = rows(corners, SQUARE)
    assert are_convex(given).tolist() == [convex, True]
    assert polygon_areas(hulls(given)).tolist() == [area, 100]
    assert hulls(given).shape == (2, 8)
    assert are_convex(hulls(given)).all()
