"""Small scenes in KITTI's form: a car, where it is moved, and what is measured of such rows."""

from pathlib import Path

from detcore.data.faults import Faults
from detcore.data.readers.kitti_labels import LABEL, RESULT, parse_objects
from detcore.evaluation.kitti_metrics import kitti_metrics
from tests.helpers.plain_kitti import Row, line

# a car of 100 x 100 pixels, fully visible, 2 m high, 4 m long and 2 m wide, 20 m ahead
CAR: Row = {
    **{"type": "Car", "truncated": 0.0, "occluded": 0, "alpha": 0.0},
    **{"left": 100, "top": 100, "right": 200, "bottom": 200},
    **{"h": 2.0, "w": 2.0, "l": 4.0, "x": 0.0, "y": 1.5, "z": 20.0, "rotation_y": 0.0},
}


def thing(place=0, **changes):
    """A label: the car, `place` times 300 pixels and 30 m to the right."""
    moved = {k: CAR[k] + 300 * place for k in ("left", "right")} | {"x": 30.0 * place}
    return {**CAR, **moved, **changes}


def found(place=0, score=0.9, **changes):
    return {**thing(place, **changes), "score": score}


def objects(rows, columns, name="000000.txt"):
    return parse_objects(Path(name), [line(row) for row in rows], Faults(), columns)


def measure(labels, results, points=40):
    """Of lists of rows per picture."""
    return kitti_metrics(
        [objects(rows, LABEL) for rows in labels],
        [objects(rows, RESULT, f"{k:06d}.txt") for k, rows in enumerate(results)],
        points=points,
    )


def class_row(figures, name="Car"):
    return next(row for row in figures["per_class"] if row["name"] == name)
