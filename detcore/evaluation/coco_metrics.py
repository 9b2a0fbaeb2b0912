"""Figures of merit of detections in COCO's form."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from detcore.evaluation.matching import (
    FORGIVEN,
    WRONG,
    ImageMatch,
    is_ignored,
    is_oriented,
    match_images,
)
from detcore.evaluation.oriented_metrics import RECALLS, CocoRun, oriented_run
from detcore.utils.json_types import Json
from detcore.utils.optional_imports import require

MOST_DETECTIONS = 100  # of a class in a picture, that COCO's average precision takes
# pycocotools' order of its twelve figures
COCO_FIGURES = (
    "mAP",
    "AP50",
    "AP75",
    "AP_small",
    "AP_medium",
    "AP_large",
    "AR1",
    "AR10",
    "AR100",
    "AR_small",
    "AR_medium",
    "AR_large",
)


def coco_metrics(ground_truth: Json, results: list[Json], *, curves: bool = False) -> Json:
    """Average precision as COCO defines it, computed by pycocotools.

    Of oriented boxes it is `detcore.evaluation.oriented_metrics` that computes it, by the same
    rules.

    Args:
        ground_truth: a COCO document (`DetectionDataset.to_coco`). Crowds, and objects with
            ``ignore: 1``, are neither asked for nor counted against a detection.
        results: COCO results: ``image_id``, ``category_id``, ``bbox`` xywh in pixels, or cxcywhr
            as the document has them, ``score``.
        curves: give the precision-recall curves too.

    Returns:
        The twelve figures by name, 0..1, None where nothing of the kind exists; ``per_class``: a
        list of ``name``, ``AP``, ``AP50``, ``objects`` in the order of the categories. With
        `curves` ``curves``: ``recall``, 101 of them, and ``per_class``: ``name`` and
        ``precision`` at each of these at IoU 0.5, None for a class without objects. Deterministic.
    """
    oriented = is_oriented(ground_truth["annotations"] or results)
    evaluated = oriented_run if oriented else _pycocotools_run
    run = evaluated(ground_truth, results)
    figures: Json = {k: _none_if_absent(v) for k, v in zip(COCO_FIGURES, run.stats, strict=True)}
    # precision: [IoU thresholds 0.50..0.95, recalls, classes, areas (0 is all), max detections]
    precision = run.precision[:, :, :, 0, -1]
    objects: dict[int, int] = defaultdict(int)
    for a in ground_truth["annotations"]:
        objects[a["category_id"]] += not is_ignored(a)
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    figures["per_class"] = [
        {
            "name": names[category],
            "AP": _none_if_absent(_mean(precision[:, :, k])),
            "AP50": _none_if_absent(_mean(precision[0, :, k])),
            "objects": objects[category],
        }
        for k, category in enumerate(run.category_ids)
    ]
    if curves:
        at_half = {
            names[category]: precision[0, :, k].tolist() if objects[category] else None
            for k, category in enumerate(run.category_ids)
        }
        rows = [{"name": name, "precision": curve} for name, curve in at_half.items()]
        figures["curves"] = {"recall": RECALLS.tolist(), "per_class": rows}
    return figures


def _pycocotools_run(ground_truth: Json, results: list[Json]) -> CocoRun:
    """pycocotools' evaluation, all of its steps done."""
    coco_module, eval_module = require("pycocotools.coco"), require("pycocotools.cocoeval")

    class Eval(eval_module.COCOeval):  # type: ignore[name-defined]
        def _prepare(self) -> None:
            # pycocotools overwrites an annotation's "ignore" with its crowd flag
            super()._prepare()
            for annotations in self._gts.values():
                for a in annotations:
                    a["ignore"] = int(a["iscrowd"] or a["_kept_ignore"])

    annotations = [{**a, "_kept_ignore": a.get("ignore", 0)} for a in ground_truth["annotations"]]
    # pycocotools prints a page to stdout; what it says is in the return value
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_module.COCO()
        truth.dataset = {**ground_truth, "annotations": annotations}
        truth.createIndex()
        found = coco_module.COCO()
        if results:
            found = truth.loadRes([dict(r) for r in results])
        else:
            found.dataset = {**ground_truth, "annotations": []}
            found.createIndex()
        run = Eval(truth, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return CocoRun(run.params.catIds, run.eval["precision"], list(run.stats))


def operating_point(
    ground_truth: Json, results: list[Json], score: float = 0.5, iou: float = 0.5
) -> Json:
    """Precision, recall and box quality when detections below a confidence are thrown away.

    The rule is `detcore.evaluation.matching.match_images`.

    Args:
        ground_truth, results: as in `coco_metrics`.
        score: least confidence kept. iou: least IoU of a match.

    Returns:
        ``score``, as given; ``precision``, ``recall``, their harmonic mean ``f1`` over all classes
        and ``mean_iou`` of the matches, each 0..1 or None without a denominator; ``per_class`` in
        the order of the categories: ``name``, ``precision``, ``recall``, ``f1``, ``matched``,
        ``wrong``, ``missed``. Deterministic.
    """
    return at_confidence(
        match_images(ground_truth, results, score=score, iou=iou),
        ground_truth["categories"],
        score,
    )


def at_confidence(matches: list[ImageMatch], categories: list[Json], score: float) -> Json:
    """`operating_point`'s figures of matches, which `match_images` made at this `score`."""
    counts = {c["id"]: np.zeros(3, int) for c in categories}
    overlaps: list[float] = []
    for match in matches:
        for k, (r, partner) in enumerate(zip(match.detections, match.partner, strict=True)):
            counts[r["category_id"]] += partner >= 0, partner == WRONG, 0
            if partner >= 0:
                overlaps.append(float(match.overlap[k, partner]))
        for a, free in zip(match.objects, match.unfound, strict=True):
            counts[a["category_id"]][2] += free
    total = sum(counts.values(), np.zeros(3, int))
    return {
        "score": score,
        **_ratios(total),
        # a sorted sum: the order of images must not move the last digit
        "mean_iou": float(np.mean(sorted(overlaps))) if overlaps else None,
        "per_class": [
            {
                "name": c["name"],
                **_ratios(counts[c["id"]]),
                **dict(zip(("matched", "wrong", "missed"), counts[c["id"]].tolist(), strict=True)),
            }
            for c in categories
        ],
    }


def best_confidence(matches: list[ImageMatch]) -> Json | None:
    """The confidence of the highest F1 over all classes: ``score``, ``f1``, and its two parts.

    Args:
        matches: of all detections (`match_images` with a `score` of 0).

    Returns:
        None where nothing is right. Of equally good confidences the highest. Deterministic.
    """
    scores, right = [], []
    for match in matches:
        for r, partner in zip(match.detections, match.partner, strict=True):
            if partner != FORGIVEN:
                scores.append(r["score"])
                right.append(partner >= 0)
    if not any(right):
        return None
    objects = sum(len(match.objects) for match in matches)
    order = np.argsort(-np.array(scores), kind="stable")
    sorted_scores, hits = np.array(scores)[order], np.cumsum(np.array(right)[order])
    kept = np.arange(1, len(hits) + 1)
    # F1 = 2 right / (detections + objects); equal scores are kept or dropped together
    f1 = np.where(np.diff(sorted_scores, append=-np.inf) < 0, 2 * hits / (kept + objects), -1.0)
    best = int(f1.argmax())
    return {
        "score": float(sorted_scores[best]),
        "f1": float(f1[best]),
        "precision": float(hits[best] / kept[best]),
        "recall": float(hits[best] / objects),
    }


def _ratios(counts: NDArray[np.int_]) -> Json:
    """Precision, recall and F1 of (matched, wrong, missed)."""
    matched, wrong, missed = counts.tolist()
    return {
        "precision": _ratio(matched, matched + wrong),
        "recall": _ratio(matched, matched + missed),
        "f1": _ratio(2 * matched, 2 * matched + wrong + missed),
    }


def _mean(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else -1.0


def _none_if_absent(figure: float) -> float | None:
    return None if figure < 0 else float(figure)


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
