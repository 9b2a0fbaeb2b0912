import copy
import math

import numpy as np
import pytest
import torch

from detcore.evaluation.coco_metrics import COCO_FIGURES, coco_metrics
from detcore.evaluation.evaluator import detection_figures, evaluate_results
from detcore.evaluation.matching import is_oriented, match_images, overlaps, shares_inside
from detcore.evaluation.oriented_metrics import angle_error
from tests.helpers.documents import found, truth


def turned(entries):
    """Annotations or results of upright boxes as oriented ones at an angle of 0."""
    out = copy.deepcopy(entries)
    for entry in out:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x + width / 2, y + height / 2, width, height, 0.0]
    return out


def scene(seed, images=6, classes=3):
    """Random objects, some crowds, ignored or of every size, and detections of varied merit."""
    rng = np.random.default_rng(seed)
    annotations, rows = [], []
    for image in range(1, images + 1):
        for _ in range(int(rng.integers(0, 9))):
            side = float(rng.choice([12, 50, 120])) * rng.uniform(0.6, 1.4, 2)
            # powers of two apart, so that both ways of writing a box round alike
            box = [float(v) for v in np.round([*rng.uniform(0, 300, 2), *side]) * 2]
            category = 5 * int(rng.integers(1, classes + 1))
            flags = {"iscrowd": int(rng.random() < 0.1), "ignore": int(rng.random() < 0.1)}
            annotations.append((image, category, box, flags))
            for _ in range(int(rng.integers(0, 4))):
                near = np.round(np.array(box) + rng.normal(0, 0.1, 4) * box[2] / 2) * 1.0
                near[2:] = np.maximum(near[2:], 2)
                named = category if rng.random() < 0.8 else 5 * int(rng.integers(1, classes + 1))
                score = round(float(rng.random()), 2)  # with ties
                rows.append((image, named, near.tolist(), score))
    document = truth(*annotations, classes=[f"c{k}" for k in range(classes)])
    document["images"] = [{"id": i, "width": 700, "height": 700} for i in range(1, images + 1)]
    return document, found(*rows)


@pytest.mark.parametrize("seed", range(25))
def test_upright_boxes_get_pycocotools_figures(seed):
    document, results = scene(seed)
    wanted = coco_metrics(document, results, curves=True)
    document = {**document, "annotations": turned(document["annotations"])}
    got = coco_metrics(document, turned(results), curves=True)
    for name in COCO_FIGURES:
        assert got[name] == pytest.approx(wanted[name], abs=1e-12), name
    for one, other in zip(got["per_class"], wanted["per_class"], strict=True):
        assert one == pytest.approx(other, abs=1e-12)
    assert got["curves"]["recall"] == wanted["curves"]["recall"]
    for one, other in zip(got["curves"]["per_class"], wanted["curves"]["per_class"], strict=True):
        assert one["name"] == other["name"]
        assert one["precision"] == pytest.approx(other["precision"], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_other_figures_are_alike_too(seed):
    document, results = scene(seed)
    wanted = detection_figures(document, results, details=True)
    document = {**document, "annotations": turned(document["annotations"])}
    got = detection_figures(document, turned(results), details=True)
    assert got.pop("angle_error") in (None, 0.0)
    assert "angle_error" not in wanted
    for key in ("precision", "recall", "f1", "mean_iou", "best_confidence"):
        assert got[key] == pytest.approx(wanted[key], abs=1e-9), key
    assert got["confusion"] == wanted["confusion"]
    assert got["errors"] == wanted["errors"]
    for key in ("AP_11_point", "AP_all_point"):
        assert got["voc"][0][key] == pytest.approx(wanted["voc"][0][key], abs=1e-9)


def test_more_than_a_hundred_detections_of_a_class_count_as_in_pycocotools():
    document, _ = scene(3)
    rng = np.random.default_rng(0)
    boxes = np.round(rng.uniform(0, 300, (400, 4))) * 2 + [0, 0, 2, 2]
    rows = [(1 + k % 2, 5, box.tolist(), float(rng.random())) for k, box in enumerate(boxes)]
    wanted = coco_metrics(document, found(*rows))
    document = {**document, "annotations": turned(document["annotations"])}
    got = coco_metrics(document, turned(found(*rows)))
    assert [got[k] for k in COCO_FIGURES] == pytest.approx([wanted[k] for k in COCO_FIGURES])


LONG = [50, 50, 40, 10, 30]


def test_a_turn_by_hand():
    """A box of 40 x 10 turned by a quarter has an IoU of 100 / 700 with itself."""
    document = truth((1, 5, LONG))
    right = evaluate_results(document, found((1, 5, LONG, 0.9)))
    assert right.figures["mAP"] == pytest.approx(1)
    assert right.figures["angle_error"] == 0
    crossed = [50, 50, 40, 10, 120]
    assert overlaps_of(LONG, crossed) == pytest.approx(1 / 7)
    wrong = evaluate_results(document, found((1, 5, crossed, 0.9))).figures
    assert wrong["mAP"] == 0
    assert wrong["angle_error"] is None
    # the same rectangle by its other names
    for name in ([50, 50, 10, 40, 120], [50, 50, 40, 10, 210], [50, 50, 10, 40, -60]):
        figures = evaluate_results(document, found((1, 5, name, 0.9))).figures
        assert figures["AP75"] == pytest.approx(1)
        assert figures["angle_error"] == pytest.approx(0, abs=1e-9)


def overlaps_of(one, other):
    from detcore.evaluation.matching import boxes_of

    return overlaps(boxes_of([{"bbox": one}]), boxes_of([{"bbox": other}]))[0, 0]


def test_the_median_angle():
    document = truth((1, 5, LONG), (2, 5, [40, 40, 40, 20, -88]), (2, 5, [70, 40, 40, 20, 0]))
    rows = found(
        (1, 5, [50, 50, 40, 10, 32], 0.9),  # 2 degrees
        (2, 5, [40, 40, 40, 20, 89], 0.8),  # 3 degrees, across the seam
        (2, 5, [70, 40, 20, 40, 79], 0.7),  # 11 degrees, by the other side's name
    )
    assert angle_error(match_images(document, rows)) == pytest.approx(3)
    assert evaluate_results(document, rows, score=0.85).figures["angle_error"] == pytest.approx(2)
    assert angle_error([]) is None


def test_a_crowd_forgives_by_the_share_that_lies_in_it():
    """A box wholly in a turned region is forgiven; one beside it is wrong."""
    region = [50, 50, 60, 20, 90]
    document = truth((1, 5, region, {"iscrowd": 1}), (1, 5, [10, 10, 10, 4, 20]))
    inside, beside = [50, 50, 30, 8, 90], [80, 50, 30, 8, 90]
    rows = found((1, 5, [10, 10, 10, 4, 20], 0.5), (1, 5, inside, 0.9))
    assert coco_metrics(document, rows)["mAP"] == pytest.approx(1)
    rows[1]["bbox"] = beside
    assert coco_metrics(document, rows)["mAP"] == pytest.approx(0.5)


def test_half_of_an_upright_box_is_exactly_half():
    boxes = torch.tensor([[x, 0.1, x + 0.2, 0.4] for x in (0.1, 0.3, 1 / 3)], dtype=torch.float64)
    for box in boxes:
        middle = (box[0] + box[2]) / 2
        region = torch.stack((middle - 1, box[1] - 1, middle, box[3] + 1))[None]
        assert shares_inside(box[None], region).item() == pytest.approx(0.5, abs=1e-15)
    whole = torch.tensor([[0.0, 0, 4, 4]], dtype=torch.float64)
    assert shares_inside(whole, torch.tensor([[2.0, 0, 9, 9]], dtype=torch.float64)) == 0.5
    assert shares_inside(whole[:, [0, 0, 0, 0]], whole) == 0  # without area


def test_nothing_found_and_nothing_to_find():
    document = truth((1, 5, LONG))
    assert coco_metrics(document, [])["mAP"] == 0
    nothing = truth()
    figures = detection_figures(nothing, found((1, 5, LONG, 0.9)), details=True)
    assert figures["mAP"] is None
    assert figures["angle_error"] is None
    assert is_oriented(found((1, 5, LONG, 0.9)))
    assert not is_oriented([])


def test_order_of_pictures_does_not_matter():
    document, results = scene(11)
    document = {**document, "annotations": turned(document["annotations"])}
    results = turned(results)
    first = detection_figures(document, results, details=True)
    document["images"].reverse()
    again = detection_figures(document, results, details=True)
    for key in ("mAP", "AP50", "AR100", "precision", "angle_error"):
        assert again[key] == first[key] or math.isclose(again[key], first[key], abs_tol=1e-12)
