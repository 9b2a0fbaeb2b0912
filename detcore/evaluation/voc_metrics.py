"""Average precision as PASCAL VOC defines it (Everingham et al., IJCV 2010; devkits 2007, 2012)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detcore.evaluation.matching import boxes_of, is_ignored, overlaps
from detcore.utils.json_types import Json

Floats = NDArray[np.float64]
VOC_IOU = (0.5,)  # at which the challenges took it


def average_precision(recall: Floats, precision: Floats, *, points: int | None = None) -> float:
    """Area under a precision-recall curve.

    Args:
        recall, precision: ``[n]`` after each detection by descending score; recall ascends.
        points: 11 for VOC 2007's mean of the best precision at recalls 0, 0.1, ... 1; None for
            the whole area under the curve made monotone (VOC 2010 and later).

    Returns:
        0..1. A recall that is not reached has precision 0.
    """
    # the best precision at this recall or beyond
    best = np.maximum.accumulate(np.append(precision, 0.0)[::-1])[::-1]
    if points is not None:
        # decimal recalls such as 3 / 10 must count as reached
        wanted = np.linspace(0, 1, points) - 1e-9
        return float(best[np.searchsorted(recall, wanted)].mean())
    return float((np.diff(recall, prepend=0.0) * best[:-1]).sum())


def voc_metrics(ground_truth: Json, results: list[Json], *, iou: float = 0.5) -> Json:
    """Mean and single average precisions by the devkit's rule.

    A detection belongs to the object of its class that it overlaps most, taken or not (COCO's goes
    on to the next free one): right if it is the surest there and the IoU reaches `iou`, wrong if
    it isn't, and out of the count where the object is to be ignored ("difficult", or a crowd).
    Widths and heights are continuous, x2 - x1: the devkit takes corners for numbers of pixels and
    adds one to each width and height, so that its IoUs, of small boxes above all, are higher.

    Args:
        ground_truth, results: as in `detcore.evaluation.coco_metrics.coco_metrics`.
        iou: the least IoU of a detection that is right.

    Returns:
        ``iou``, as given; ``AP_11_point`` and ``AP_all_point``, means over the classes that have
        objects, None without; ``per_class``: ``name`` and the two. Detections of equal score count
        in the order given. Deterministic.
    """
    return average_precisions(ground_truth, results, Rule(iou, _box_iou))


@dataclass(frozen=True)
class Rule:
    """When a detection may be right by the devkit's matching.

    iou: the least IoU. overlaps: gives the IoU ``[n, m]`` of n results with m annotations of one
    image, float64. more: the IoU must be more than the least, not only reach it.
    """

    iou: float
    overlaps: Callable[[list[Json], list[Json]], Floats]
    more: bool = False

    def fits(self, iou: float) -> bool:
        """Whether a detection of this IoU with its object may be right."""
        return iou > self.iou if self.more else iou >= self.iou


def average_precisions(ground_truth: Json, results: list[Json], rule: Rule) -> Json:
    """What `voc_metrics` gives, with the boxes and the IoU of `rule`."""
    truth: dict[tuple[int, int], list[Json]] = defaultdict(list)
    found: dict[int, list[Json]] = defaultdict(list)
    for a in ground_truth["annotations"]:
        truth[a["category_id"], a["image_id"]].append(a)
    for r in results:
        found[r["category_id"]].append(r)
    rows: list[Json] = []
    for c in ground_truth["categories"]:
        mine = {image: rows for (category, image), rows in truth.items() if category == c["id"]}
        eleven, every = _of_class(mine, found[c["id"]], rule)
        rows.append({"name": c["name"], "AP_11_point": eleven, "AP_all_point": every})
    figures: Json = {"iou": rule.iou}
    for key in ("AP_11_point", "AP_all_point"):
        known = [row[key] for row in rows if row[key] is not None]
        figures[key] = float(np.mean(known)) if known else None
    return {**figures, "per_class": rows}


def _of_class(
    truth: dict[int, list[Json]], found: list[Json], rule: Rule
) -> tuple[float | None, float | None]:
    """11-point and all-point AP of one class; None where it has no objects."""
    objects = sum(not is_ignored(a) for rows in truth.values() for a in rows)
    if not objects:
        return None, None
    order = sorted(range(len(found)), key=lambda k: -found[k]["score"])
    nearest: dict[int, tuple[float, int]] = {}  # of a detection: IoU and row of its object
    of_image: dict[int, list[int]] = defaultdict(list)
    for k, r in enumerate(found):
        of_image[r["image_id"]].append(k)
    for image, rows in of_image.items():
        if there := truth.get(image):
            overlap = rule.overlaps([found[k] for k in rows], there)
            pairs = zip(overlap.max(1).tolist(), overlap.argmax(1).tolist(), strict=True)
            nearest.update(zip(rows, pairs, strict=True))
    right: list[bool] = []
    taken: set[tuple[int, int]] = set()
    for k in order:
        overlap_k, row = nearest.get(k, (-1.0, 0))
        place = (found[k]["image_id"], row)
        if not rule.fits(overlap_k):
            right.append(False)
        elif not is_ignored(truth[place[0]][row]):
            right.append(place not in taken)
            taken.add(place)
    hits = np.cumsum(right, dtype=np.float64)
    recall, precision = hits / objects, hits / np.arange(1, len(right) + 1)
    eleven = average_precision(recall, precision, points=11)
    return eleven, average_precision(recall, precision)


def _box_iou(results: list[Json], annotations: list[Json]) -> Floats:
    return overlaps(boxes_of(results), boxes_of(annotations))
