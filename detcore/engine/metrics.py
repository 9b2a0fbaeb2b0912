"""Figures of merit, for detections in COCO's form and for classification scores."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detcore import ops
from detcore.data.extras import require

Json = dict[str, Any]

# pycocotools' order of its twelve figures
_STATS = (
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


def coco_metrics(ground_truth: Json, results: list[Json]) -> Json:
    """Average precision as COCO defines it, computed by pycocotools.

    Args:
        ground_truth: a COCO document (`DetectionDataset.to_coco`). Crowds, and objects with
            ``ignore: 1``, are neither asked for nor counted against a detection.
        results: COCO results: ``image_id``, ``category_id``, ``bbox`` xywh in pixels, ``score``.

    Returns:
        The twelve figures by name, 0..1, None where nothing of the kind exists; ``per_class``: a
        list of ``name``, ``AP``, ``AP50``, ``objects`` in the order of the categories.
        Deterministic.
    """
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
    figures: Json = {k: _none_if_absent(v) for k, v in zip(_STATS, run.stats, strict=True)}
    # precision: [IoU thresholds 0.50..0.95, recalls, classes, areas (0 is all), max detections]
    precision = run.eval["precision"][:, :, :, 0, -1]
    objects: dict[int, int] = defaultdict(int)
    for a in annotations:
        objects[a["category_id"]] += not (a["iscrowd"] or a["_kept_ignore"])
    names = {c["id"]: c["name"] for c in ground_truth["categories"]}
    figures["per_class"] = [
        {
            "name": names[category],
            "AP": _none_if_absent(_mean(precision[:, :, k])),
            "AP50": _none_if_absent(_mean(precision[0, :, k])),
            "objects": objects[category],
        }
        for k, category in enumerate(run.params.catIds)
    ]
    return figures


def operating_point(
    ground_truth: Json, results: list[Json], score: float = 0.5, iou: float = 0.5
) -> Json:
    """Precision, recall and box quality when detections below a confidence are thrown away.

    Each detection, by descending score, takes the free object of its class and image with the
    highest IoU, if that reaches `iou` (COCO's greedy rule). Detections that otherwise fall on a
    crowd (by intersection over their own area) or on an ignored object count for nothing.

    Args:
        ground_truth, results: as in `coco_metrics`.
        score: least confidence kept. iou: least IoU of a match.

    Returns:
        ``precision``, ``recall`` over all classes and ``mean_iou`` of the matches, each 0..1 or
        None without a denominator; ``per_class`` in the order of the categories: ``name``,
        ``precision``, ``recall``, ``matched``, ``wrong``, ``missed``.
    """
    truth: dict[tuple[int, int], list[Json]] = defaultdict(list)
    found: dict[tuple[int, int], list[Json]] = defaultdict(list)
    for a in ground_truth["annotations"]:
        truth[a["image_id"], a["category_id"]].append(a)
    for r in results:
        if r["score"] >= score:
            found[r["image_id"], r["category_id"]].append(r)
    counts = {c["id"]: np.zeros(3, int) for c in ground_truth["categories"]}
    overlaps: list[float] = []
    for key in truth.keys() | found.keys():
        matched, wrong, missed = _match(truth[key], found[key], iou)
        counts[key[1]] += len(matched), wrong, missed
        overlaps += matched
    total = sum(counts.values(), np.zeros(3, int))
    return {
        "score_threshold": score,
        "precision": _ratio(total[0], total[0] + total[1]),
        "recall": _ratio(total[0], total[0] + total[2]),
        # a sorted sum: the order of a set of keys must not move the last digit
        "mean_iou": float(np.mean(sorted(overlaps))) if overlaps else None,
        "per_class": [
            {
                "name": c["name"],
                "precision": _ratio(n[0], n[0] + n[1]),
                "recall": _ratio(n[0], n[0] + n[2]),
                "matched": int(n[0]),
                "wrong": int(n[1]),
                "missed": int(n[2]),
            }
            for c in ground_truth["categories"]
            for n in (counts[c["id"]],)
        ],
    }


def classification_metrics(scores: Tensor, targets: Tensor, classes: list[str]) -> Json:
    """Accuracy, precision and recall, computed by torchmetrics.

    Args:
        scores: ``[N, C]`` probabilities.
        targets: int64 ``[N]`` class numbers, or multi-label ``[N, C]`` zeros and ones, where a
            score above 0.5 says yes.
        classes: C names.

    Returns:
        ``accuracy`` (share of pictures right; multi-label: share of single yes/no answers
        right), ``precision`` and ``recall`` (means over classes), and ``per_class``: ``name``,
        ``precision``, ``recall``, ``objects``.

    Raises:
        ValueError: shapes that don't belong together.
    """
    functional: Any = require("torchmetrics.functional.classification", "torchmetrics")
    count = len(classes)
    if scores.shape != (len(targets), count):
        raise ValueError(
            f"classification_metrics: scores must be [{len(targets)}, {count}], "
            f"got {list(scores.shape)}"
        )
    if targets.ndim == 2:
        kind, size, targets = "multilabel", {"num_labels": count}, targets.long()
        objects = targets.sum(0)
    else:
        kind, size = "multiclass", {"num_classes": count}
        objects = torch.bincount(targets, minlength=count)
    # accuracy over all answers ("micro"), the others as a mean over classes ("macro"): for the
    # multi-class case micro precision and recall would only repeat the accuracy
    figures: Json = {
        "accuracy": float(
            getattr(functional, f"{kind}_accuracy")(scores, targets, average="micro", **size)
        )
    }
    each = {}
    for name in ("precision", "recall"):
        measure = getattr(functional, f"{kind}_{name}")
        figures[name] = float(measure(scores, targets, average="macro", **size))
        each[name] = measure(scores, targets, average="none", **size).tolist()
    figures["per_class"] = [
        {
            "name": name,
            "precision": each["precision"][k],
            "recall": each["recall"][k],
            "objects": int(objects[k]),
        }
        for k, name in enumerate(classes)
    ]
    return figures


def _match(truth: list[Json], found: list[Json], iou: float) -> tuple[list[float], int, int]:
    """IoU of each match, number of detections that are wrong, number of objects missed."""
    real = [a for a in truth if not (a["iscrowd"] or a.get("ignore", 0))]
    ignored = [a for a in truth if a["iscrowd"] or a.get("ignore", 0)]
    found = sorted(found, key=lambda r: -r["score"])
    boxes = _xyxy(found)
    overlap = ops.box_iou(boxes, _xyxy(real)).numpy()
    forgiven = _forgiven(boxes, ignored, iou)
    free, matched, wrong = np.ones(len(real), bool), [], 0
    for k in range(len(found)):
        open_to_it = np.where(free, overlap[k], -1.0)
        best = int(open_to_it.argmax()) if len(real) else -1
        if best >= 0 and open_to_it[best] >= iou:
            free[best] = False
            matched.append(float(overlap[k, best]))
        elif not forgiven[k]:
            wrong += 1
    return matched, wrong, int(free.sum())


def _forgiven(boxes: Tensor, ignored: list[Json], iou: float) -> NDArray[np.bool_]:
    """[n] whether a box lies on a crowd or on an ignored object."""
    if not ignored or not len(boxes):
        return np.zeros(len(boxes), bool)
    region = _xyxy(ignored)
    overlap = ops.box_iou(boxes, region)
    sides = torch.minimum(boxes[:, None, 2:], region[:, 2:]) - torch.maximum(
        boxes[:, None, :2], region[:, :2]
    )
    inside = sides.clamp(min=0).prod(2) / ops.box_area(boxes)[:, None].clamp(min=1e-9)
    crowd = torch.tensor([bool(a["iscrowd"]) for a in ignored])
    hit = torch.where(crowd, inside, overlap) >= iou
    out: NDArray[np.bool_] = hit.any(1).numpy()
    return out


def _xyxy(entries: list[Json]) -> Tensor:
    """[n, 4] float64 xyxy out of COCO's xywh."""
    boxes = torch.tensor([e["bbox"] for e in entries], dtype=torch.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _mean(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else -1.0


def _none_if_absent(figure: float) -> float | None:
    return None if figure < 0 else float(figure)


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
