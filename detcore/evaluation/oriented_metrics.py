"""COCO's average precision of oriented boxes, for which pycocotools has no IoU.

The rules are pycocotools' (Lin et al., ECCV 2014): ten IoUs, 101 recalls, four ranges of area, at
most 1, 10 and 100 detections of a class in a picture. On upright boxes the two agree.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detcore.data.oriented import longer_first
from detcore.evaluation.matching import ImageMatch, boxes_of, is_ignored, overlaps
from detcore.utils.json_types import Json

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
MOST = (1, 10, 100)  # detections of a class in a picture
AREAS = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))  # pixels^2: all, small to large

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class CocoRun:
    """What COCO's evaluation found, pycocotools' or `oriented_run`'s.

    category_ids: of the classes, ascending. precision: [10, 101, classes, 4, 3], by IoU, recall,
    class, range of area, most detections; -1 where a class has no objects. stats: pycocotools'
    twelve figures in its order, -1 for one that there is nothing to take of.
    """

    category_ids: list[int]
    precision: Floats
    stats: list[float]


def oriented_run(ground_truth: Json, results: list[Json]) -> CocoRun:
    """COCO's evaluation of oriented boxes.

    Args:
        ground_truth: a COCO document whose ``bbox`` are cxcywhr, five numbers: centre, width and
            height in pixels, degrees counter-clockwise.
        results: COCO results with such boxes.

    Deterministic: equal scores count in the order given.
    """
    ids = sorted(c["id"] for c in ground_truth["categories"])
    truth: dict[tuple[int, int], list[Json]] = defaultdict(list)
    found: dict[tuple[int, int], list[Json]] = defaultdict(list)
    for grouped, entries in ((truth, ground_truth["annotations"]), (found, results)):
        for entry in entries:
            grouped[entry["image_id"], entry["category_id"]].append(entry)
    shape = len(ids), len(AREAS), len(MOST)
    precision = np.full((len(IOUS), len(RECALLS), *shape), -1.0)
    recall = np.full((len(IOUS), *shape), -1.0)
    images = sorted(i["id"] for i in ground_truth["images"])
    for k, category in enumerate(ids):
        pairs = ((truth[i, category], found[i, category]) for i in images)
        of_class = [_Image.of(*pair) for pair in pairs if any(pair)]
        for a, area in enumerate(AREAS):
            matched = [image.matched(area) for image in of_class]
            objects = sum(m.objects for m in matched)
            for m, most in enumerate(MOST):
                if objects:
                    curve = _curve(matched, objects, most)
                    precision[:, :, k, a, m], recall[:, k, a, m] = curve
    return CocoRun(ids, precision, _stats(precision[..., -1], recall))


def angle_error(matches: list[ImageMatch]) -> float | None:
    """The median angle in degrees, 0..90, between detections and the objects they found.

    matches: of oriented boxes. Angles are those of the longer sides, so half a turn is none. None
    where nothing is found.
    """
    found, objects = [], []
    for match in matches:
        for r, partner in zip(match.detections, match.partner, strict=True):
            if partner >= 0:
                found.append(r["bbox"])
                objects.append(match.objects[partner]["bbox"])
    if not found:
        return None
    angles = (longer_first(np.array(boxes, np.float64))[:, 4] for boxes in (found, objects))
    turn = np.abs(np.subtract(*angles))
    return float(np.median(np.minimum(turn, 180 - turn)))


@dataclass(frozen=True)
class _Matched:
    """A picture's n detections of a class by descending score, at each IoU right or out of count.

    objects: how many there are to be found.
    """

    objects: int
    scores: Floats  # [n]
    right: Bools  # [10, n]
    out: Bools  # [10, n]


@dataclass(frozen=True)
class _Image:
    """One class in one picture: n detections by descending score, m objects."""

    scores: Floats  # [n]
    found_areas: Floats  # [n], pixels^2
    overlap: Floats  # [n, m] IoU, with a crowd the share of the detection that lies in it
    areas: Floats  # [m], pixels^2
    ignored: Bools  # [m]
    crowd: Bools  # [m]

    @classmethod
    def of(cls, truth: list[Json], found: list[Json]) -> _Image:
        # sorted is stable, as pycocotools' own order is
        found = sorted(found, key=lambda r: -r["score"])[: MOST[-1]]
        crowd = np.array([bool(a.get("iscrowd", 0)) for a in truth], bool)
        boxes = boxes_of(found)
        return cls(
            np.array([r["score"] for r in found], np.float64),
            (boxes[:, 2] * boxes[:, 3]).numpy(),
            overlaps(boxes, boxes_of(truth), crowd),
            np.array([a["area"] for a in truth], np.float64),
            np.array([is_ignored(a) for a in truth], bool),
            crowd,
        )

    def matched(self, area: tuple[float, float]) -> _Matched:
        """Each detection, the surest first, takes the free object that it overlaps most."""
        low, high = area
        ignored = self.ignored | (self.areas < low) | (self.areas > high)
        count, rows = len(self.scores), np.arange(len(IOUS))
        right = np.zeros((len(IOUS), count), bool)
        out = np.zeros_like(right)
        free = np.ones((len(IOUS), len(self.areas)), bool)
        least = np.minimum(IOUS, 1 - 1e-10)[:, None]
        for k in range(count if len(self.areas) else 0):
            allowed = np.where(
                (free | self.crowd) & (self.overlap[k] >= least), self.overlap[k], -1
            )
            sound = np.where(ignored, -1.0, allowed)
            # what is to be ignored is taken where there is nothing else
            chosen = np.where((sound.max(1) >= 0)[:, None], sound, allowed)
            best = chosen.shape[1] - 1 - chosen[:, ::-1].argmax(1)  # the last of equal ones
            hit = chosen[rows, best] >= 0
            free[rows[hit], best[hit]] = False
            out[:, k] = hit & ignored[best]
            right[:, k] = hit & ~ignored[best]
        outside = (self.found_areas < low) | (self.found_areas > high)
        out |= ~right & outside
        return _Matched(int((~ignored).sum()), self.scores, right, out)


def _curve(matched: list[_Matched], objects: int, most: int) -> tuple[Floats, Floats]:
    """Precision [10, 101] at each recall, and the recall [10] reached."""
    # at least one picture is here: there are objects
    scores = np.concatenate([m.scores[:most] for m in matched])
    order = np.argsort(-scores, kind="mergesort")
    right = np.concatenate([m.right[:, :most] for m in matched], axis=1)[:, order]
    out = np.concatenate([m.out[:, :most] for m in matched], axis=1)[:, order]
    hits = np.cumsum(right, axis=1, dtype=np.float64)
    wrong = np.cumsum(~right & ~out, axis=1, dtype=np.float64)
    precision = np.zeros((len(IOUS), len(RECALLS)))
    for t in range(len(IOUS)):
        exact = hits[t] / (wrong[t] + hits[t] + np.spacing(1))
        best = np.maximum.accumulate(exact[::-1])[::-1]
        at = np.searchsorted(hits[t] / objects, RECALLS, side="left")
        reached = at < len(best)
        precision[t, reached] = best[at[reached]]
    recall = hits[:, -1] / objects if len(order) else np.zeros(len(IOUS))
    return precision, recall


def _stats(precision: Floats, recall: Floats) -> list[float]:
    """The twelve figures; precision [10, 101, classes, 4], recall [10, classes, 4, 3]."""
    half, three_quarters = 0, 5  # of IOUS
    return [
        _mean(precision[..., 0]),
        _mean(precision[half, ..., 0]),
        _mean(precision[three_quarters, ..., 0]),
        *(_mean(precision[..., area]) for area in (1, 2, 3)),
        *(_mean(recall[..., 0, most]) for most in range(3)),
        *(_mean(recall[..., area, -1]) for area in (1, 2, 3)),
    ]


def _mean(values: Floats) -> float:
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
