"""KITTI's figures of random scenes, against plain loops."""

import json
import random

import pytest

from detcore.evaluation.kitti_metrics import FIGURES
from tests.helpers import plain_kitti
from tests.helpers.kitti import class_row, measure
from tests.helpers.plain_kitti import LEVELS


def random_row(rng, kinds):
    top, left = rng.uniform(0, 150), rng.uniform(0, 1000)
    # heights at the levels' borders are exact: a picture has rows of pixels
    height = rng.choice([18, 24.75, 25, 25.25, 25.25, 33, 39.75, 40, 40.25, 40.25, 60, 90, 110])
    top = round(top)
    return {
        "type": rng.choice(kinds),
        "truncated": rng.choice([0, 0, 0, 0, 0, 0.15, 0.2, 0.3, 0.4, 0.5, 0.9]),
        "occluded": rng.choice([0, 0, 0, 0, 0, 1, 1, 2, 3]),
        "alpha": rng.uniform(-3.1, 3.1),
        **{"left": left, "top": top, "bottom": top + height},
        "right": left + height * rng.uniform(0.5, 2.5),
        **{"h": rng.uniform(1.3, 2.2), "w": rng.uniform(0.5, 2), "l": rng.uniform(0.6, 4.5)},
        **{"x": rng.uniform(-20, 20), "y": rng.uniform(1, 2), "z": rng.uniform(4, 60)},
        "rotation_y": rng.uniform(-3.1, 3.1),
    }


def shaken(rng, label):
    """A detection near an object: exact, near, or too far away to be it."""
    by = rng.choice([0.0, 0.01, 0.02, 0.04, 0.08, 0.3])
    row = dict(label)
    width = label["right"] - label["left"]
    for side in ("left", "right"):
        row[side] += rng.uniform(-by, by) * width
    row["top"] += rng.choice([0, 0, -1, 1, 0.5])
    if rng.random() < 0.1:  # too low, and in space where it was
        row["bottom"] = row["top"] + 24
    for side, scale in (("x", "w"), ("z", "l"), ("y", "h")):
        row[side] += rng.uniform(-by, by) * abs(label[scale])
    for side in ("h", "w", "l"):
        row[side] *= 1 + rng.uniform(-by, by)
    row["alpha"] += rng.gauss(0, 4 * by)
    row["rotation_y"] += rng.gauss(0, by)
    return row


def random_scene(rng):
    """Labels and results of one to thirty pictures."""
    kinds = ["Car", "Pedestrian", "Cyclist"] * 3 + ["Van", "Person_sitting", "Truck", "DontCare"]
    labels, results = [], []
    for _ in range(rng.choice([1, 2, 3, 5, 8, 12, 16, 30])):
        truth = [random_row(rng, kinds) for _ in range(rng.randint(0, 8))]
        # objects close together, which want the same detections
        near = [shaken(rng, row) for row in truth if rng.random() < 0.3]
        truth += [{**row, "type": rng.choice([row["type"], "Van", "Car"])} for row in near]
        shown = []
        for label in truth:
            for _ in range(rng.choice([0, 1, 1, 2, 3])):
                row = shaken(rng, label)
                if row["type"] == "DontCare" or rng.random() < 0.15:
                    row["type"] = rng.choice(["Car", "Pedestrian", "Cyclist", "car", "Tram"])
                elif rng.random() < 0.5:
                    row["type"] = {"Van": "Car", "Person_sitting": "Pedestrian"}.get(
                        row["type"], row["type"]
                    )
                shown.append(row)
        shown += [random_row(rng, kinds[:-1]) for _ in range(rng.randint(0, 3))]
        rng.shuffle(shown)
        for row in shown:
            row["score"] = rng.choice([rng.random(), round(rng.random(), 1)])  # ties too
            if rng.random() < 0.05:
                row |= dict.fromkeys(("h", "w", "l"), -1) | dict.fromkeys("xyz", -1000)
        labels.append(truth)
        results.append(shown)
    if rng.random() < 0.1 and results[0]:
        results[0][0]["alpha"] = -10
    if rng.random() < 0.05:
        for row in (row for shown in results for row in shown):
            row |= dict.fromkeys(("h", "w", "l"), -1) | dict.fromkeys("xyz", -1000)
    return labels, results


@pytest.mark.parametrize("part", range(10))
def test_200_random_scenes_against_plain_loops(part):
    for number in range(20 * part, 20 * part + 20):
        labels, results = random_scene(random.Random(number))
        figures = {points: measure(labels, results, points) for points in (40, 11)}
        for name in ("Car", "Pedestrian", "Cyclist"):
            for figure in FIGURES:
                for level in LEVELS:
                    where = f"scene {number}, {name}, {figure}, {level}"
                    wanted = plain_kitti.plain_figure(labels, results, name, figure, level)
                    for points, got in figures.items():
                        row = class_row(got, name)
                        mean = plain_kitti.plain_mean(wanted, points)
                        assert row[figure][level] == pytest.approx(mean, abs=1e-12), where
                        assert row["curves"][figure][level] == pytest.approx(wanted, abs=1e-12)


def test_random_scenes_are_of_every_kind():
    """Of every class, figure and level many values between 0 and 1, and some None."""
    values = {}
    for number in range(150):
        figures = measure(*random_scene(random.Random(number)), points=11)
        for row in figures["per_class"]:
            for figure in FIGURES:
                for level in LEVELS:
                    values.setdefault((row["name"], figure, level), set()).add(row[figure][level])
    assert len(values) == 3 * 4 * 3
    for of in values.values():
        assert None in of
        assert len({v for v in of if v is not None and 0 < v < 1}) >= 10


def test_the_same_figures_every_time():
    scene = random_scene(random.Random(7))
    assert json.dumps(measure(*scene)) == json.dumps(measure(*scene))
