"""DOTA's rules on scenes whose figures are worked out by hand."""

import math

import numpy as np
import pytest

from detcore.data.base import DetectionDataset, Record
from detcore.evaluation.dota_metrics import dota_metrics, oriented_iou
from tests.helpers.documents import found, truth

# the square from 10 to 20 both ways; the same a quarter turn on; far from both
SQUARE = [15, 15, 10, 10, 0]
FAR = [80, 80, 10, 10, 0]


def corners(*numbers):
    return {"corners": list(numbers)}


def scene(*objects):
    """Ground truth of (image, category, cxcywh and degrees, {flags or corners}) rows."""
    return truth(*objects)


def figure(document, *rows, **options):
    return dota_metrics(document, found(*rows), **options)["AP_all_point"]


def overlap(box, **place):
    return oriented_iou([{"bbox": box}], [{"bbox": SQUARE, **place}])[0, 0]


def test_areas_by_hand():
    # a square on its corner in one upright: its diagonal is 10, its area 50
    assert overlap([15, 15, 50**0.5, 50**0.5, 45]) == pytest.approx(50 / 100)
    # the same square turned by 45 degrees: the octagon they share is 200 (sqrt 2 - 1)
    shared = 200 * (math.sqrt(2) - 1)
    assert overlap([15, 15, 10, 10, 45]) == pytest.approx(shared / (200 - shared))
    assert overlap([20, 15, 10, 10, 90]) == pytest.approx(50 / 150)
    assert overlap([25, 15, 10, 10, 0]) == 0  # they touch
    assert overlap([15, 15, 20, 5, 90]) == pytest.approx(50 / 150)
    # a trapezium of 10 and 5 by 10: 75 of the square's 100
    assert overlap(SQUARE, corners=[10, 20, 20, 20, 17.5, 10, 12.5, 10]) == pytest.approx(0.75)


def test_the_original_quadrilateral_counts_and_not_the_rectangle_around_it():
    # nearly a triangle: 49.49 of the square's 100, and half of the 10 by 9.8 around it
    rectangle, thin = [15, 14.9, 10, 9.8, 0], corners(10, 10, 20, 10, 15.05, 19.8, 14.95, 19.8)
    assert overlap(SQUARE, **thin) == pytest.approx(0.4949)
    assert figure(scene((1, 5, rectangle)), (1, 5, SQUARE, 0.9)) == 1
    assert figure(scene((1, 5, rectangle, thin)), (1, 5, SQUARE, 0.9)) == 0


def test_the_iou_must_be_more_than_the_threshold():
    half = [15, 12.5, 10, 5, 0]  # an IoU of exactly 0.5, which VOC would take
    assert figure(scene((1, 5, SQUARE)), (1, 5, half, 0.9)) == 0
    assert figure(scene((1, 5, SQUARE)), (1, 5, [15, 12.6, 10, 5.2, 0], 0.9)) == 1
    assert figure(scene((1, 5, SQUARE)), (1, 5, half, 0.9), iou=0.49) == 1


def test_a_turned_box_is_the_same_by_its_other_names():
    box = [50, 50, 30, 10, 20]
    for same in ([50, 50, 10, 30, 110], [50, 50, 30, 10, -160], [50, 50, 10, 30, -70]):
        assert figure(scene((1, 5, box)), (1, 5, same, 0.9)) == 1
    assert figure(scene((1, 5, box)), (1, 5, [50, 50, 30, 10, -20], 0.9)) == 0  # turned other way


def test_difficult_objects_neither_help_nor_hurt():
    for flag in ({"ignore": 1}, {"iscrowd": 1}):
        document = scene((1, 5, SQUARE), (1, 5, FAR, flag))
        assert figure(document, (1, 5, FAR, 0.9), (1, 5, FAR, 0.8), (1, 5, SQUARE, 0.7)) == 1
        # nothing is asked for where all are difficult
        assert figure(scene((1, 5, FAR, flag)), (1, 5, FAR, 0.9)) is None


def test_a_detection_belongs_to_the_object_that_it_overlaps_most():
    # 12 and 18 wide of 20, so that both objects are over a half, and the second is the nearest
    first, second = [10, 10, 20, 10, 0], [14, 10, 20, 10, 0]
    document = scene((1, 5, first), (1, 5, second))
    # the surer one takes the second object; the other's nearest is the second too: wrong
    rows = [(1, 5, [14, 10, 20, 10, 0], 0.9), (1, 5, [13, 10, 20, 10, 0], 0.8)]
    assert figure(document, *rows) == 0.5
    # the nearest of the second is difficult: out of the count, and the first is not found
    document = scene((1, 5, first), (1, 5, second, {"ignore": 1}))
    assert figure(document, *rows) == 0


def test_a_second_detection_of_an_object_is_wrong():
    rows = [(1, 5, SQUARE, 0.9), (1, 5, SQUARE, 0.8), (1, 5, FAR, 0.7)]
    # right, wrong, right of two: precisions 1, 1/2, 2/3
    assert figure(scene((1, 5, SQUARE), (1, 5, FAR)), *rows) == pytest.approx((1 + 2 / 3) / 2)


def test_eleven_points_by_hand():
    rows = found((1, 5, SQUARE, 0.9), (1, 5, [50, 50, 9, 9, 30], 0.8), (1, 5, FAR, 0.7))
    figures = dota_metrics(scene((1, 5, SQUARE), (1, 5, FAR)), rows)
    # six points, 0 to 0.5, at precision 1; five at 2/3
    assert figures["AP_11_point"] == pytest.approx((6 + 5 * 2 / 3) / 11)
    assert figures["AP_all_point"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["iou"] == 0.5


def test_three_of_ten_reach_the_point():
    places = [[10 * k + 5, 5, 8, 4, 10] for k in range(10)]
    document = scene(*((1, 5, place) for place in places))
    figures = dota_metrics(document, found(*((1, 5, place, 0.9) for place in places[:3])))
    assert figures["AP_11_point"] == pytest.approx(4 / 11)


def test_classes_and_pictures_are_apart():
    document = scene((1, 5, SQUARE), (2, 10, SQUARE))
    figures = dota_metrics(document, found((1, 5, SQUARE, 0.9), (1, 10, SQUARE, 0.9)))
    assert [c["AP_all_point"] for c in figures["per_class"]] == [1, 0]
    assert figures["AP_all_point"] == 0.5
    assert dota_metrics(scene(), [])["AP_11_point"] is None


def test_corners_that_are_not_convex_count_by_their_hull():
    crossed = corners(10, 10, 20, 20, 20, 10, 10, 20)  # the square's, in the order of a bow tie
    dented = corners(10, 10, 20, 10, 13, 13, 10, 20)  # the hull is half the square
    assert overlap(SQUARE, **crossed) == pytest.approx(1)
    assert overlap(SQUARE, **dented) == pytest.approx(0.5)


def test_upright_boxes_of_either_are_taken():
    document = scene((1, 5, [10, 10, 10, 10]))  # xywh
    assert figure(document, (1, 5, [10, 10, 10, 10], 0.9)) == 1
    assert figure(document, (1, 5, [15, 15, 10, 10, 90], 0.9)) == 1


def test_as_a_set_gives_its_truth():
    class One(DetectionDataset):
        oriented = True

        def __len__(self):
            return 1

        def record(self, _index):
            rows = [[10, 10, 20, 10, 20, 14, 10, 15], [50, 50, 70, 60, 66, 68, 46, 58]]
            return Record.of_corners(7, "a.png", (100, 100), rows, [1, 1], [False, True])

        def image(self, _index):
            raise NotImplementedError

    document = One(["plane"]).to_coco()
    exact = [document["annotations"][0] | {"score": 0.9}]
    assert len(exact[0]["bbox"]) == 5
    figures = dota_metrics(document, [{k: v for k, v in exact[0].items() if k != "corners"}])
    # the rectangle around it is 10 by 5, of which the object is 45
    iou = oriented_iou([{"bbox": exact[0]["bbox"]}], document["annotations"])
    assert iou[0].tolist() == [pytest.approx(0.9, abs=0.02), 0]
    assert figures["AP_all_point"] == 1


def test_many_pairs_against_a_slow_plain_count():
    rng = np.random.default_rng(0)
    boxes = np.column_stack(
        [rng.uniform(20, 80, (12, 2)), rng.uniform(10, 40, (12, 2)), rng.uniform(-180, 180, 12)]
    ).tolist()
    one, other = ([{"bbox": b} for b in part] for part in (boxes[:6], boxes[6:]))
    at = np.arange(-20.1, 120, 0.2)
    x, y = np.meshgrid(at, at)

    def inside(box):
        cx, cy, width, height, degrees = box
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        along, across = cos * (x - cx) - sin * (y - cy), sin * (x - cx) + cos * (y - cy)
        return (abs(along) <= width / 2) & (abs(across) <= height / 2)

    counted = [
        [(inside(a) & inside(b)).sum() / (inside(a) | inside(b)).sum() for b in boxes[6:]]
        for a in boxes[:6]
    ]
    assert oriented_iou(one, other) == pytest.approx(np.array(counted), abs=0.01)
    assert np.count_nonzero(counted) > 10
