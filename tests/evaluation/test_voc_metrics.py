import numpy as np
import pytest

from detcore.evaluation.coco_metrics import coco_metrics
from detcore.evaluation.voc_metrics import average_precision, voc_metrics
from tests.helpers.documents import FAR, A, B, found, truth


def test_areas_by_hand():
    # right, wrong, right, wrong of three objects
    recall, precision = np.array([1, 1, 2, 2]) / 3, np.array([1, 1 / 2, 2 / 3, 1 / 2])
    assert average_precision(recall, precision) == pytest.approx((1 + 2 / 3) / 3)
    # recalls 0 to 0.3 have precision 1, 0.4 to 0.6 have 2/3, the last four are not reached
    assert average_precision(recall, precision, points=11) == pytest.approx((4 + 2) / 11)
    nothing = np.zeros(0)
    assert (
        average_precision(nothing, nothing) == average_precision(nothing, nothing, points=11) == 0
    )


def test_a_recall_of_tenths_counts_as_reached():
    # 3 of 10 found: 3 / 10 is less than numpy's third point, 0.30000000000000004
    recall = np.array([1, 2, 3]) / 10
    assert average_precision(recall, np.ones(3), points=11) == pytest.approx(4 / 11)


def test_one_class_by_hand():
    rows = found((1, 5, A, 0.9), (1, 5, FAR, 0.8), (1, 5, B, 0.7))
    figures = voc_metrics(truth((1, 5, A), (1, 5, B)), rows)
    assert figures["AP_all_point"] == pytest.approx(5 / 6)
    assert figures["AP_11_point"] == pytest.approx((6 + 5 * 2 / 3) / 11)
    first, second = figures["per_class"]
    assert first["AP_all_point"] == figures["AP_all_point"]
    assert second == {"name": "y", "AP_11_point": None, "AP_all_point": None}


def test_the_mean_is_over_classes_with_objects():
    rows = found((1, 5, A, 0.9), (1, 10, FAR, 0.9))
    assert voc_metrics(truth((1, 5, A), (1, 10, B)), rows)["AP_all_point"] == 0.5
    assert voc_metrics(truth((1, 5, A)), rows)["AP_all_point"] == 1
    assert voc_metrics(truth(), rows)["AP_all_point"] is None


def test_a_second_detection_of_the_nearest_object_is_wrong():
    first, beside = [0, 0, 20, 20], [4, 0, 20, 20]
    document = truth((1, 5, first), (1, 5, beside))
    # IoU 19/21 with the first object, 17/23 with the other, to which COCO assigns it
    rows = found((1, 5, first, 0.9), (1, 5, [1, 0, 20, 20], 0.8))
    assert voc_metrics(document, rows)["AP_all_point"] == 0.5
    assert coco_metrics(document, rows)["AP50"] == pytest.approx(1)


def test_difficult_objects_neither_help_nor_hurt():
    for flag in ({"ignore": 1}, {"iscrowd": 1}):
        document = truth((1, 5, A), (1, 5, B, flag))
        rows = found((1, 5, B, 0.9), (1, 5, A, 0.8))
        assert voc_metrics(document, rows)["AP_all_point"] == 1
    # an IoU equal to the threshold is a match
    half = found((1, 5, [10, 10, 20, 10], 0.9))
    assert voc_metrics(truth((1, 5, A)), half)["AP_all_point"] == 1
    assert voc_metrics(truth((1, 5, A)), half, iou=0.51)["AP_all_point"] == 0


def test_the_same_box_in_another_image_finds_nothing():
    rows = found((2, 5, A, 0.9), (1, 5, A, 0.8))
    assert voc_metrics(truth((1, 5, A)), rows)["AP_all_point"] == 0.5
