"""COCO files with turned boxes: five numbers, or polygons."""

import numpy as np
import pytest

from detcore.data import DataError, load
from detcore.data.faults import Faults, Kind
from tests.data.test_coco import document, write


def places(tmp_path, *annotations, oriented, faults=None):
    """The record of a picture of 40 by 30 with these annotations, each of category 3."""
    content = document()
    content["annotations"] = [
        {"id": k, "image_id": 7, "category_id": 3, **a} for k, a in enumerate(annotations, start=1)
    ]
    data = load(write(tmp_path, content), "all", oriented=oriented, faults=faults)
    assert data.oriented == oriented
    return data.record(0)


def test_five_numbers_are_a_turned_box(tmp_path):
    box = {"bbox": [20, 15, 12, 6, 90]}
    rec = places(tmp_path, box, {"bbox": [20, 15, 6, 12, 30]}, oriented=True)
    # a quarter turn counter-clockwise: its top left corner is low on the left
    assert rec.corners[0] == pytest.approx([17, 21, 17, 9, 23, 9, 23, 21])
    assert rec.rectangles[0] == pytest.approx([20, 15, 12, 6, -90])
    assert rec.rectangles[1] == pytest.approx([20, 15, 12, 6, -60])
    assert rec.area == pytest.approx([72, 72])
    upright = places(tmp_path, box, oriented=False)
    assert upright.corners is None
    assert upright.boxes[0] == pytest.approx([17, 9, 23, 21])


def test_polygons_are_taken_by_the_smallest_rectangle_around_all_points(tmp_path):
    bbox = {"bbox": [0, 0, 40, 30]}
    rows = (
        {**bbox, "segmentation": [[10, 5, 15, 10, 10, 15, 5, 10]]},
        {**bbox, "segmentation": [[0, 0, 4, 0, 4, 2], [8, 0, 8, 4, 0, 4]]},
        {"segmentation": [[10, 5, 15, 10, 10, 15, 5, 10]], "area": 7},
        {**bbox, "segmentation": [[1, 1, 2, 2, 3, 3]]},  # a line
        {**bbox, "segmentation": [["x"]]},
        {**bbox, "segmentation": []},
        {"bbox": [20, 15, 12, 6, 10], "segmentation": [[0, 0, 4, 0, 4, 2]]},
    )
    rec = places(tmp_path, *rows, oriented=True)
    side = 50**0.5
    assert rec.rectangles[0] == pytest.approx([10, 10, side, side, -45])
    assert rec.rectangles[1] == pytest.approx([4, 2, 8, 4, 0])
    assert rec.rectangles[2] == pytest.approx([10, 10, side, side, -45])
    assert rec.rectangles[3:6].tolist() == [[20, 15, 40, 30, 0]] * 3
    assert rec.rectangles[6] == pytest.approx([20, 15, 12, 6, 10])
    assert rec.area[2] == 7


def test_crowds_stay_crowds_by_their_upright_box(tmp_path):
    mask = {"counts": [0, 900], "size": [30, 30]}
    rec = places(
        tmp_path,
        {"bbox": [0, 0, 30, 30], "iscrowd": 1, "segmentation": mask},
        {"bbox": [10, 10, 10, 10], "iscrowd": 1, "segmentation": [[10, 5, 15, 10, 10, 15]]},
        {"bbox": [10, 10, 10, 5], "ignore": 1},
        oriented=True,
    )
    assert rec.iscrowd.tolist() == [True, True, False]
    assert rec.ignore.tolist() == [False, False, True]
    assert rec.corners[0].tolist() == [0, 0, 30, 0, 30, 30, 0, 30]
    assert rec.corners[1].tolist() == [10, 10, 20, 10, 20, 20, 10, 20]
    assert len(rec.target()["boxes"]) == 1


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize(
    ("bbox", "words"),
    [
        ([1, 2, 3], r"has bbox \[1, 2, 3\], wanted \[x, y, width, height\]"),
        ([1, 2, 3, 4, 5, 6], r"wanted \[x, y, width, height\]"),
        ([1, 2, 3, 4, float("nan")], r"wanted \[x, y, width, height\]"),
    ],
)
def test_boxes_of_other_lengths_are_refused(tmp_path, bbox, words, oriented):
    with pytest.raises(DataError, match=words):
        places(tmp_path, {"bbox": bbox}, oriented=oriented)


def test_turned_boxes_without_area_are_left_out(tmp_path):
    rows = [{"bbox": b} for b in ([5, 5, 0, 4, 10], [5, 5, 4, -4, 10], [5, 5, 1e200, 1e200, 3])]
    for oriented in (False, True):
        faults = Faults()
        rec = places(tmp_path, *rows, {"bbox": [5, 5, 4, 4]}, oriented=oriented, faults=faults)
        assert len(rec.boxes) == 1
        assert [f.kind for f in faults if f.file == "a.jpg"] == [Kind.NO_AREA] * 3


def test_what_an_oriented_set_says_is_read_back(tmp_path):
    rows = [[20, 15, 12, 6, 30], [10, 10, 8, 3, -45]]
    content = document()
    content["annotations"] = [
        {"id": k, "image_id": 7, "category_id": 3, "bbox": box} for k, box in enumerate(rows)
    ]
    told = load(write(tmp_path, content), "all", oriented=True).to_coco()
    assert [a["bbox"] for a in told["annotations"]] == [pytest.approx(row) for row in rows]
    again = load(write(tmp_path, told), "all", oriented=True)
    assert again.record(0).corners == pytest.approx(
        np.array([a["corners"] for a in told["annotations"]])
    )
