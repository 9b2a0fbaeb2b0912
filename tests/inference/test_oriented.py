"""Oriented boxes after the model: tiles, tracks, drawings and files."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from detcore.evaluation.coco_results import checked_results, read_results
from detcore.inference.draw import class_colour, draw, draw_boxes
from detcore.inference.export_formats import Save, to_supervision, write_answers
from detcore.inference.predictor import to_json
from detcore.inference.tiles import merge_tiles, predict_tiled
from detcore.inference.tracker import Tracker

CLASSES = ["ship", "plane"]
LONG = (50.0, 40, 60, 12, 30)


def detections(*rows):
    """Rows of five numbers, score and label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 7)
    return {"boxes": table[:, :5], "scores": table[:, 5], "labels": table[:, 6].long()}


def answer(*rows):
    return {"file": "a.png", **to_json(detections(*rows), CLASSES, torch.zeros(3, 100, 200))}


def test_json_has_the_five_numbers():
    (found,) = answer((*LONG, 0.75, 1))["detections"]
    assert found == {"class": "ship", "score": 0.75, "box": [50, 40, 60, 12, 30]}


def test_tiles_keep_the_whole_box_of_a_seam_and_drop_its_part():
    """Two tiles of 100 meet at 80..100 of a picture of 180."""
    tiles, size = [(0, 0, 100, 100), (80, 0, 180, 100)], (100, 180)
    whole = (30.0, 50, 40, 10, 45)  # in the right tile; at 110, 50 of the picture
    # the left tile sees its lower end, and turned boxes are not cut at a tile's border
    part = (99.0, 61, 9, 10, 45)
    left, right = detections((*part, 0.9, 1)), detections((*whole, 0.8, 1))
    merged = merge_tiles([left, right], tiles, size)
    assert merged["boxes"].tolist() == [[110, 50, 40, 10, 45]]
    # of another class it explains nothing
    right["labels"] += 1
    assert len(merge_tiles([left, right], tiles, size)["boxes"]) == 2


def test_tiles_suppress_by_the_oriented_iou():
    """Crossed bars share an upright box, and little of each other."""
    tile = [(0, 0, 100, 100)]
    crossed = detections((50, 50, 60, 10, 45, 0.9, 1), (50, 50, 60, 10, -45, 0.8, 1))
    assert len(merge_tiles([crossed], tile, (100, 100))["boxes"]) == 2
    alike = detections((50, 50, 60, 10, 45, 0.9, 1), (51, 50, 60, 10, 47, 0.8, 1))
    assert merge_tiles([alike], tile, (100, 100))["scores"].tolist() == pytest.approx([0.9])


class Brightest(nn.Module):
    """Finds one bright bar, by the moments of its pixels."""

    def forward(self, images):
        return [self.find(image.mean(0)) for image in images]

    def find(self, image):
        y, x = torch.where(image > 0.5)
        if len(x) < 20:
            return detections()
        at = torch.stack((x, y), 1).float() + 0.5
        middle = at.mean(0)
        values, vectors = torch.linalg.eigh((at - middle).T @ (at - middle) / len(at))
        height, width = (12 * values.clamp(min=0.1)).sqrt().tolist()
        angle = -torch.rad2deg(torch.atan2(vectors[1, 1], vectors[0, 1])).item()
        return detections((*middle.tolist(), width, height, angle, 0.9, 1))


def test_a_bar_of_a_large_picture_is_found_once_where_it_is():
    image = torch.zeros(3, 200, 400)
    y, x = torch.meshgrid(torch.arange(200) + 0.5, torch.arange(400) + 0.5, indexing="ij")
    turn = torch.deg2rad(torch.tensor(25.0))
    along = (x - 210) * turn.cos() - (y - 90) * turn.sin()
    across = (x - 210) * turn.sin() + (y - 90) * turn.cos()
    image[:, (along.abs() < 30) & (across.abs() < 6)] = 1
    found = predict_tiled(Brightest(), image, tile=160, overlap=0.5, whole=False)
    assert len(found["boxes"]) == 1
    cx, cy, width, height, angle = found["boxes"][0].tolist()
    assert (cx, cy) == pytest.approx((210, 90), abs=1)
    assert (width, height) == pytest.approx((60, 12), abs=1.5)
    assert (angle - 25 + 90) % 180 - 90 == pytest.approx(0, abs=1.5)


def test_tracks_follow_turned_boxes():
    tracker = Tracker()
    first = tracker.update(detections((50, 40, 60, 10, 45, 0.9, 1), (50, 40, 60, 10, -45, 0.9, 1)))
    assert first.tolist() == [1, 2]
    # both moved on; the upright boxes around them are one, the bars aren't
    moved = detections((52, 41, 60, 10, -44, 0.9, 1), (52, 41, 60, 10, 46, 0.9, 1))
    assert tracker.update(moved).tolist() == [2, 1]
    assert tracker.update(detections()).tolist() == []
    again = detections((56, 43, 60, 10, -43, 0.9, 1), (56, 43, 60, 10, 47, 0.9, 1))
    assert tracker.update(again).tolist() == [2, 1]


def test_a_turned_box_is_drawn_along_its_sides():
    image = torch.full((3, 64, 96), 128, dtype=torch.uint8)
    picture = draw(
        image,
        {"detections": [{"class": "plane", "score": 0.9, "box": [48, 36, 40, 20, 90]}]},
        classes=CLASSES,
    )
    pixels, colour = np.asarray(picture), np.array(class_colour(1))
    # a quarter turn: 20 wide and 40 high, from 38 to 58 and from 16 to 56, eightfold
    for x, y in ((38 * 8 + 1, 300), (58 * 8 - 1, 300), (48 * 8, 16 * 8 + 1), (48 * 8, 56 * 8 - 1)):
        assert (pixels[y, x] == colour).all(), (x, y)
    assert (pixels[300, 48 * 8] == 128).all()
    assert (pixels[300, 34 * 8] == 128).all()


@pytest.mark.parametrize("far", [1e30, 1e308])
def test_a_turned_box_beyond_all_bounds_is_drawn_at_once(far):
    image = torch.zeros(3, 48, 64)
    rows = [((32, 24, far, 10, 20), "x", (255, 0, 0)), ((far, far, 10, 10, 20), "y", (255, 0, 0))]
    assert np.asarray(draw_boxes(image, rows, enlarge=False)).any()


def test_coco_goes_round(tmp_path):
    path = tmp_path / "dets.json"
    write_answers(Save(path, "coco"), [answer((*LONG, 0.75, 1), (*LONG, 0.5, 2))], CLASSES)
    truth = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "plane"}],
    }
    rows = checked_results(path, read_results(path), truth, oriented=True)
    assert [r["bbox"] for r in rows] == [list(LONG)] * 2
    assert [r["category_id"] for r in rows] == [1, 2]


def test_yolo_has_four_corners(tmp_path):
    """By hand: 40 x 20 at a quarter turn; the first corner is the lower left one then."""
    box = (100.0, 50, 40, 20, 90)
    write_answers(Save(tmp_path, "yolo"), [answer((*box, 0.75, 2))], CLASSES)
    words = (tmp_path / "a.txt").read_text().split()
    assert words[0] == "1"
    corners = np.array(words[1:9], float).reshape(4, 2) * (200, 100)
    wanted = [[90, 70], [90, 30], [110, 30], [110, 70]]
    np.testing.assert_allclose(corners, wanted, atol=1e-3)
    assert words[9:] == ["0.750000"]


def test_csv_has_centre_sides_and_angle(tmp_path):
    path = tmp_path / "a.csv"
    write_answers(Save(path, "csv"), [answer((*LONG, 0.75, 1)), answer()], CLASSES)
    head, row = path.read_text().splitlines()
    assert head == "file,class,score,cx,cy,width,height,angle"
    assert row == "a.png,ship,0.75,50.0,40.0,60.0,12.0,30.0"


def test_json_file_is_the_answers(tmp_path):
    path, answers = tmp_path / "a.json", [answer((*LONG, 0.75, 1))]
    write_answers(Save(path, "json"), answers, CLASSES)
    assert json.loads(path.read_text()) == answers


def test_supervision_gets_corners():
    supervision = pytest.importorskip("supervision")
    found = to_supervision(detections((50, 40, 40, 20, 90, 0.75, 1)), CLASSES)
    np.testing.assert_allclose(found.xyxy, [[40, 20, 60, 60]], atol=1e-4)
    corners = found.data[supervision.config.ORIENTED_BOX_COORDINATES]
    np.testing.assert_allclose(corners, [[[40, 60], [40, 20], [60, 20], [60, 60]]], atol=1e-4)
