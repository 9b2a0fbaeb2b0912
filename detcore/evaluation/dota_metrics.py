"""Average precision as DOTA's devkit computes it for oriented boxes (Xia et al., CVPR 2018)."""

from __future__ import annotations

import numpy as np

from detcore.data.oriented import Floats, corners_of, upright_corners
from detcore.data.polygons import convex_iou, hulls
from detcore.evaluation.voc_metrics import Rule, average_precisions
from detcore.utils.json_types import Json

DOTA_IOU = 0.5


def dota_metrics(ground_truth: Json, results: list[Json], *, iou: float = DOTA_IOU) -> Json:
    """Mean and single average precisions by DOTA's rules for oriented boxes, its Task 1.

    The matching is PASCAL VOC's, see `detcore.evaluation.voc_metrics.voc_metrics`, with three
    differences, as in DOTA's dota_evaluation_task1.py:

    - The IoU is that of a detection's rectangle with the quadrilateral that was annotated, not with
      the rectangle around it that was learned. It is exact, in float64, by cutting one along the
      other's sides. A quadrilateral whose sides cross, or with a corner that points inward, is
      taken by its hull.
    - A detection is right if its IoU is more than `iou`; VOC's only reaches it.
    - Difficult objects (``ignore: 1``) are neutral, as VOC's; so are crowds, which DOTA has not.

    The 11-point figure is the one that DOTA's script prints, but that there a recall of 3 / 10
    falls short of the point 0.3, which is 0.30000000000000004 in it (as are 0.6 and 0.7), and here
    reaches it.

    Args:
        ground_truth: what `DetectionDataset.to_coco` gives of an oriented set. An annotation
            without ``corners`` is the rectangle of its ``bbox``: cxcywh and degrees, or upright
            xywh.
        results: COCO results whose ``bbox`` is cxcywh, in pixels, and degrees counter-clockwise, or
            upright xywh.
        iou: what the IoU of a detection that is right is more than.

    Returns:
        ``iou``, as given; ``AP_11_point`` and ``AP_all_point`` (the area under the curve), means
        over the classes that have objects, None without; ``per_class``: ``name`` and the two.
        Detections of equal score count in the order given. Deterministic.
    """
    return average_precisions(ground_truth, results, Rule(iou, oriented_iou, more=True))


def oriented_iou(results: list[Json], annotations: list[Json]) -> Floats:
    """IoU ``[n, m]``, float64, of n results with m annotations; see `dota_metrics` for both."""
    return convex_iou(quadrilaterals(results), quadrilaterals(annotations))


def quadrilaterals(entries: list[Json]) -> Floats:
    """Convex corners ``[n, 8]`` of annotations or results: ``corners``, or those of ``bbox``."""
    out = np.zeros((len(entries), 8))
    places = [e["corners"] if "corners" in e else e["bbox"] for e in entries]
    numbers = np.array([len(place) for place in places])
    for count in np.unique(numbers).tolist():
        rows = np.flatnonzero(numbers == count)
        given = np.array([places[k] for k in rows], np.float64)
        if count == 5:
            given = corners_of(given)
        elif count == 4:
            given = upright_corners(np.column_stack([given[:, :2], given[:, :2] + given[:, 2:]]))
        out[rows] = given
    return hulls(out)
