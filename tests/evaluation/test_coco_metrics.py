import json

import numpy as np
import pytest

from detcore.evaluation.coco_metrics import best_confidence, coco_metrics, operating_point
from detcore.evaluation.matching import match_images
from tests.helpers.documents import FAR, A, B, found, truth


def test_average_precision_by_hand():
    # right, wrong, right: precision is 1 up to recall 0.5, then 2/3; 51 of 101 recalls are at most
    # 0.5
    figures = coco_metrics(
        truth((1, 5, A), (1, 5, B)), found((1, 5, A, 0.9), (1, 5, FAR, 0.8), (1, 5, B, 0.7))
    )
    wanted = (51 + 50 * 2 / 3) / 101
    assert figures["AP50"] == pytest.approx(wanted)
    assert figures["mAP"] == pytest.approx(wanted)
    first, second = figures["per_class"]
    assert first["name"] == "x"
    assert first["AP50"] == pytest.approx(wanted)
    assert (first["objects"], second["objects"]) == (2, 0)
    assert second["AP"] is None  # without objects there is no figure


def test_it_is_pycocotools_own_figure(tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    boxes = rng.uniform(5, 60, (40, 4)).round(2)
    annotations = [
        (1 + k % 2, 5 + 5 * (k % 3 == 0), b.tolist(), {"iscrowd": int(k % 9 == 0)})
        for k, b in enumerate(boxes)
    ]
    document = truth(*annotations)
    moved = boxes + rng.normal(0, 4, boxes.shape)
    rows = found(
        *(
            (a[0], a[1], b.tolist(), float(s))
            for a, b, s in zip(annotations, moved, rng.random(40), strict=True)
        )
    )
    (tmp_path / "gt.json").write_text(json.dumps(document))
    (tmp_path / "dt.json").write_text(json.dumps(rows))
    official = COCO(str(tmp_path / "gt.json"))
    run = COCOeval(official, official.loadRes(str(tmp_path / "dt.json")), "bbox")
    run.evaluate(), run.accumulate(), run.summarize()
    mine = coco_metrics(document, rows)
    names = ("mAP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR1", "AR10", "AR100")
    got = [-1 if mine[n] is None else mine[n] for n in names]
    assert got == pytest.approx(run.stats[:9].tolist(), abs=0)
    assert 0.05 < mine["mAP"] < 0.95


def test_nothing_found_is_zero_and_not_an_error():
    figures = coco_metrics(truth((1, 5, A)), [])
    assert figures["mAP"] == figures["AP50"] == 0
    point = operating_point(truth((1, 5, A)), [])
    assert (point["precision"], point["recall"], point["mean_iou"]) == (None, 0, None)


def test_ignored_objects_neither_help_nor_hurt():
    rows = found((1, 5, B, 0.9), (1, 5, A, 0.8))
    for flag in ({"ignore": 1}, {"iscrowd": 1}):
        document = truth((1, 5, A), (1, 5, B, flag))
        assert coco_metrics(document, rows)["AP50"] == pytest.approx(1)
        point = operating_point(document, rows)
        assert (point["precision"], point["recall"]) == (1, 1)
        assert coco_metrics(document, rows)["per_class"][0]["objects"] == 1
        # they are not missed either if nothing is found
        assert coco_metrics(document, rows[1:])["AP50"] == pytest.approx(1)
        assert operating_point(document, rows[1:])["recall"] == 1
    # without the flag the surest box is wrong, because it is not in the ground truth
    assert coco_metrics(truth((1, 5, A)), rows)["AP50"] == pytest.approx(0.5)


def test_a_crowd_forgives_by_the_detections_own_area():
    document = truth((1, 5, [0, 0, 100, 100], {"iscrowd": 1}), (1, 5, A))
    point = operating_point(document, found((1, 5, [70, 70, 10, 10], 0.9), (1, 5, A, 0.8)))
    assert (point["precision"], point["recall"]) == (1, 1)
    ignored = truth((1, 5, [0, 0, 100, 100], {"ignore": 1}), (1, 5, A))
    point = operating_point(ignored, found((1, 5, [70, 70, 10, 10], 0.9), (1, 5, A, 0.8)))
    assert point["precision"] == 0.5  # an ignored object excuses boxes only by IoU


def test_operating_point_by_hand():
    rows = found(
        (1, 5, [10, 10, 20, 10], 0.9),  # half of A: IoU 0.5
        (1, 5, A, 0.8),  # A matches the surer one
        (1, 10, B, 0.7),  # another class
        (2, 5, B, 0.6),  # another image
        (1, 5, B, 0.4),  # below the confidence
    )
    document = truth((1, 5, A), (1, 5, B), (2, 5, B))
    point = operating_point(document, rows, score=0.5)
    first, second = point["per_class"]
    assert (first["matched"], first["wrong"], first["missed"]) == (2, 1, 1)
    assert (second["matched"], second["wrong"], second["missed"]) == (0, 1, 0)
    assert point["precision"] == pytest.approx(2 / 4)
    assert point["recall"] == pytest.approx(2 / 3)
    assert point["mean_iou"] == pytest.approx((0.5 + 1) / 2)
    assert second["recall"] is None
    looser = operating_point(document, rows, score=0.4)
    assert looser["recall"] == 1


def test_f1_is_of_right_wrong_and_missed():
    rows = found((1, 5, A, 0.9), (1, 5, FAR, 0.8), (1, 10, B, 0.7))
    point = operating_point(truth((1, 5, A), (1, 5, B), (2, 5, A)), rows)
    assert point["f1"] == pytest.approx(2 / (2 + 2 + 2))
    assert [r["f1"] for r in point["per_class"]] == [pytest.approx(2 / (2 + 1 + 2)), 0]
    assert operating_point(truth(), [])["f1"] is None


def test_the_best_confidence_by_hand():
    document = truth((1, 5, A), (1, 5, B), (2, 5, A))
    rows = found((1, 5, A, 0.9), (2, 5, A, 0.6), (2, 5, FAR, 0.6), (1, 5, FAR, 0.4), (1, 5, B, 0.1))
    # F1 by descending confidence: 2/4; both with 0.6 together 4/6; 4/7; 6/8
    best = best_confidence(match_images(document, rows))
    assert best == {"score": 0.1, "f1": 0.75, "precision": 0.6, "recall": 1}
    best = best_confidence(match_images(document, rows[:4]))
    assert best["score"] == 0.6
    assert best["f1"] == pytest.approx(4 / 6)
    # its figures are those of the operating point at that confidence
    point = operating_point(document, rows[:4], score=0.6)
    assert {k: point[k] for k in ("f1", "precision", "recall")} == {
        k: best[k] for k in ("f1", "precision", "recall")
    }
    assert best_confidence(match_images(document, rows[2:4])) is None


def test_precision_recall_curves_by_hand():
    rows = found((1, 5, A, 0.9), (1, 5, FAR, 0.8), (1, 5, B, 0.7))
    curves = coco_metrics(truth((1, 5, A), (1, 5, B)), rows, curves=True)["curves"]
    assert len(curves["recall"]) == 101
    first, second = curves["per_class"]
    assert first["name"] == "x"
    assert first["precision"] == pytest.approx([1] * 51 + [2 / 3] * 50)
    assert second["precision"] is None
    assert "curves" not in coco_metrics(truth((1, 5, A)), rows)
