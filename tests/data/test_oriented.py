"""Rectangles around points, and their one name."""

import numpy as np
import pytest
import torch

from detcore.data.base import Record
from detcore.data.oriented import (
    are_boxes,
    corners_of,
    enclosing,
    hull,
    longer_first,
    polygon_areas,
    smallest_rectangle,
    smallest_rectangles,
    upright_corners,
)
from detcore.ops import paired_box_iou


def smallest_area(points):
    """The least area by angle, in steps of a hundredth of a degree."""
    turns = np.radians(np.arange(0, 90, 0.01))[:, None]
    across = np.cos(turns) * points[:, 0] + np.sin(turns) * points[:, 1]
    down = np.cos(turns) * points[:, 1] - np.sin(turns) * points[:, 0]
    return (np.ptp(across, axis=1) * np.ptp(down, axis=1)).min()


def outside(box, points):
    """By how many pixels a point lies outside a box at most."""
    turn = np.radians(box[4])
    at = points - box[:2]
    along = np.cos(turn) * at[:, 0] - np.sin(turn) * at[:, 1]
    across = np.sin(turn) * at[:, 0] + np.cos(turn) * at[:, 1]
    return max(abs(along).max() - box[2] / 2, abs(across).max() - box[3] / 2)


@pytest.mark.parametrize("count", [3, 4, 5, 16, 17, 60])
def test_rectangles_against_a_search_over_all_angles(count):
    rng = np.random.default_rng(count)
    for _ in range(30):
        points = rng.uniform(0, 100, (count, 2)) * rng.uniform(0.05, 1, 2)
        box = smallest_rectangle(points)
        assert outside(box, points) < 1e-9
        least = smallest_area(points)
        # the search misses the best angle by half a step, which moves sides by that of a diagonal
        missed = np.radians(0.005) * np.square(box[2:4]).sum()
        assert least - missed <= box[2] * box[3] <= least + 1e-9
        assert box[2] >= box[3] and -90 <= box[4] < 90


def test_several_sets_are_those_one_by_one():
    rng = np.random.default_rng(0)
    sets = rng.uniform(0, 50, (20, 10))
    every = smallest_rectangles(sets)
    assert np.array_equal(every, [smallest_rectangle(points) for points in sets])
    assert smallest_rectangles(np.zeros((0, 8))).shape == (0, 5)


def test_exact_corners_give_their_rectangle_back():
    rng = np.random.default_rng(1)
    sides = np.sort(rng.uniform(1, 200, (500, 2)), axis=1)[:, ::-1]
    boxes = np.column_stack([rng.uniform(-500, 500, (500, 2)), sides, rng.uniform(-90, 90, 500)])
    assert np.allclose(smallest_rectangles(corners_of(boxes)), boxes, rtol=0, atol=1e-9)
    # the same from any corner on, and either way round
    turned = np.roll(corners_of(boxes).reshape(-1, 4, 2)[:, ::-1], 1, axis=1).reshape(-1, 8)
    assert np.allclose(smallest_rectangles(turned), boxes, rtol=0, atol=1e-9)


def test_far_from_the_origin_no_digit_is_lost():
    box = np.array([[0.5, -0.25, 8.0, 4.0, 30.0]])
    corners = corners_of(box)
    for far in (1e5, 1e8):
        moved = smallest_rectangles(corners + far) - [far, far, 0, 0, 0]
        assert np.allclose(moved, box, rtol=0, atol=far * 1e-14)
    huge = smallest_rectangles(corners_of(np.array([[0.0, 0, 8e8, 4e8, 30]])))
    assert np.allclose(huge, [[0, 0, 8e8, 4e8, 30]], rtol=1e-12, atol=1e-3)


def test_a_diamond_by_hand():
    # the corners of a square on its corner, and of a rhombus twice as wide as high
    assert smallest_rectangle([[5, 0], [10, 5], [5, 10], [0, 5]]) == pytest.approx(
        [5, 5, 50**0.5, 50**0.5, -45]
    )
    # along a side of the rhombus, 16 by 8 over root 5, an area of 25.6; upright it would be 32
    rhombus = smallest_rectangle([[4, 0], [8, 2], [4, 4], [0, 2]])
    assert rhombus[:4] == pytest.approx([4, 2, 16 / 5**0.5, 8 / 5**0.5])
    assert abs(rhombus[4]) == pytest.approx(np.degrees(np.arctan(0.5)))


def test_points_without_area():
    assert smallest_rectangle([[3, 4]]).tolist()[:4] == [3, 4, 0, 0]
    assert smallest_rectangle([[3, 4]] * 4).tolist()[:4] == [3, 4, 0, 0]
    line = smallest_rectangle([[0, 0], [3, 3], [1, 1], [6, 6]])
    assert line == pytest.approx([3, 3, 72**0.5, 0, -45], abs=1e-12)
    # a point twice: no direction comes of it
    triangle = smallest_rectangle([[0, 0], [0, 0], [6, 0], [6, 3]])
    assert triangle == pytest.approx([3, 1.5, 6, 3, 0])


def test_the_order_of_points_does_not_matter():
    crossed = smallest_rectangle([[0, 0], [8, 4], [8, 0], [0, 4]])
    assert crossed == pytest.approx([4, 2, 8, 4, 0])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([1, 2, 8, 4, 30], [8, 4, 30]),
        ([1, 2, 4, 8, 30], [8, 4, -60]),  # 30 + 90 = 120, which is -60
        ([1, 2, 4, 8, -30], [8, 4, 60]),
        ([1, 2, 8, 4, 90], [8, 4, -90]),
        ([1, 2, 8, 4, -90], [8, 4, -90]),
        ([1, 2, 8, 4, 179], [8, 4, -1]),
        ([1, 2, 8, 4, -400], [8, 4, -40]),
        ([1, 2, 4, 8, 0], [8, 4, -90]),
        ([1, 2, 5, 5, 45], [5, 5, -45]),
        ([1, 2, 5, 5, 44], [5, 5, 44]),
        ([1, 2, 5, 5, 100], [5, 5, 10]),
    ],
)
def test_the_one_name_of_a_rectangle(given, wanted):
    named = longer_first(np.array(given, np.float64))
    assert named.tolist() == [1, 2, *wanted]
    same = torch.tensor(named)[None], torch.tensor(given, dtype=torch.float64)[None]
    assert paired_box_iou(*same, fmt="cxcywhr").item() == pytest.approx(1)


def test_corners_by_hand():
    # counter-clockwise as the image is seen: the top left corner comes to lie low on the left
    turned = corners_of(np.array([[50.0, 40, 20, 10, 90]]))
    assert turned[0] == pytest.approx([45, 50, 45, 30, 55, 30, 55, 50])
    assert enclosing(turned).tolist() == [pytest.approx([45, 30, 55, 50])]
    assert upright_corners(np.array([[1.0, 2, 9, 7]])).tolist() == [[1, 2, 9, 2, 9, 7, 1, 7]]
    assert polygon_areas(turned) == pytest.approx([200])


def test_a_hull_by_hand():
    points = np.array([[0, 0], [4, 0], [2, 0], [4, 4], [1, 2], [0, 4], [0, 4]], np.float64)
    assert {tuple(p) for p in hull(points).tolist()} == {(0, 0), (4, 0), (4, 4), (0, 4)}
    assert polygon_areas(hull(points).reshape(1, -1)) == 16
    assert hull(points[:1]).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("points", "wanted"),
    [
        ([0, 0, 4, 0, 4, 3, 0, 3], True),
        ([0, 0, 4, 0, 4, 3, 4, 3], True),  # a triangle
        ([0, 0, 0.1, 0.1, 0.2, 0.2, 0.7, 0.7], False),  # decimals that aren't quite on a line
        ([1, 1] * 4, False),
        ([0, 0, 4, 0, 4, float("nan"), 0, 3], False),
        ([0, 0, float("inf"), 0, 4, 3, 0, 3], False),
        ([0, 0, 1e308, 0, 1e308, 1e308, 0, 1e308], False),
        ([0, 0, 1e9, 0, 1e9, 1e9, 0, 1e9], True),
    ],
)
def test_what_makes_a_box(points, wanted):
    assert are_boxes(np.array([points], np.float64)).tolist() == [wanted]


def record(*corners, size=(100, 80), **flags):
    labels = list(range(1, len(corners) + 1))
    ignore = flags.get("ignore", [False] * len(corners))
    return Record.of_corners(7, "a.png", size, corners, labels, ignore)


def test_a_record_of_corners():
    rec = record([10, 10, 30, 10, 30, 20, 10, 20], [50, 40, 60, 50, 50, 60, 40, 50])
    assert rec.boxes.tolist() == [[10, 10, 30, 20], [40, 40, 60, 60]]
    assert rec.area.tolist() == [200, 200]
    target = rec.target()
    assert target["boxes"].dtype == torch.float32
    assert target["boxes"][0].tolist() == [20, 15, 20, 10, 0]
    assert target["boxes"][1].tolist() == pytest.approx([50, 50, 200**0.5, 200**0.5, -45])
    assert target["labels"].tolist() == [1, 2]
    upright = rec.upright()
    assert upright.corners is None
    assert upright.area.tolist() == [200, 400]
    assert upright.target()["boxes"].tolist() == [[10, 10, 30, 20], [40, 40, 60, 60]]


def test_the_area_of_crossing_corners_is_their_hulls():
    assert record([10, 10, 30, 20, 30, 10, 10, 20]).area.tolist() == [200]


def test_targets_are_whole_where_their_centre_is_inside():
    partly = [90, 10, 108, 10, 108, 20, 90, 20]  # its centre is at 99 of 100
    beyond = [92, 10, 110, 10, 110, 20, 92, 20]  # at 101
    far = [1e9, 0, 9e8, 0, 9e8, 1e8, 1e9, 1e8]
    target = record(partly, beyond, far).target()
    assert target["boxes"].tolist() == [[99, 15, 18, 10, 0]]
    assert target["labels"].tolist() == [1]
