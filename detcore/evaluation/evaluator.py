"""Run a model over a data set and measure it, or measure detections that are there already."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from detcore.data import AnyDataset, DetectionDataset
from detcore.data.base import Target
from detcore.data.loading.loader import Batch, evaluation_loader
from detcore.evaluation.classification_metrics import classification_metrics
from detcore.evaluation.coco_metrics import (
    MOST_DETECTIONS,
    at_confidence,
    best_confidence,
    coco_metrics,
)
from detcore.evaluation.dota_metrics import dota_metrics
from detcore.evaluation.error_analysis import confusion_matrix, errors_by_kind, mistakes_of
from detcore.evaluation.matching import is_oriented, match_images
from detcore.evaluation.oriented_metrics import angle_error
from detcore.evaluation.thresholds import Thresholds, measured_with
from detcore.evaluation.voc_metrics import VOC_IOU, voc_metrics
from detcore.inference.predictor import Prediction, predict
from detcore.utils.errors import UsageError
from detcore.utils.json_types import Json
from detcore.utils.speed_watch import SpeedWatch
from detcore.utils.text import counted

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Measured:
    """The figures of an evaluation, and what they were computed from.

    Attributes:
        figures: the metrics by name, see `evaluate`.
        truth: of a detector, the COCO document of the pictures that were measured.
        results: of a detector, its detections in COCO's results form.
        answers: of a classifier, one dict per picture: ``index`` in the data set, ``truth`` and
            ``named``, lists of class numbers, and ``score``, the confidence of its best class.
    """

    figures: Json
    truth: Json = field(default_factory=dict)
    results: list[Json] = field(default_factory=list)
    answers: list[Json] = field(default_factory=list)


def evaluate(
    model: nn.Module,
    dataset: AnyDataset,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    score: float = 0.5,
    thresholds: Thresholds | None = None,
    voc_iou: Sequence[float] = VOC_IOU,
    max_damaged: float = 0.05,
    details: bool = False,
    progress: Progress | None = None,
) -> Measured:
    """Measure a model on a data set; the data set's transforms should be none.

    Args:
        model: the model, on `device`.
        dataset: the data with its ground truth.
        device: where to compute.
        batch_size: images per forward pass.
        score: confidence at which precision and recall are taken; average precision uses all.
        thresholds: what a detector returns meanwhile; its own thresholds stay as they are. COCO's
            figures take 100 detections per class and picture at most, whatever it returns.
        voc_iou: IoUs at which VOC's average precision is taken, with details.
        max_damaged: share of the pictures that may be damaged. Damaged ones are left out, of the
            ground truth too, and named in the log.
        details: also return what `detection_figures` adds, and a classifier's confusion matrix.
        progress: called with (images done, images in all).

    Returns:
        `Measured`, whose figures JSON can hold. Of a detector those of `detection_figures`, and
        ``thresholds``: ``score``, ``nms`` and ``max_detections`` that it was measured with.
        Classification: `classification_metrics`, of the best class of each image, or with several
        labels per image of the classes that the model named. Both: ``task``, ``images``,
        ``parameters`` of the model, ``seconds`` in it (reading the data not counted),
        ``images_per_second``. All but the two of time are deterministic on one device.

    Raises:
        UsageError: a ValueError, for thresholds that the model hasn't got.
    """
    batches = evaluation_loader(dataset, batch_size, max_damaged=max_damaged)
    with measured_with(model, thresholds or Thresholds()) as used:
        # of a cascade the product of two scores may be below what its detector is asked for
        least = used.score if used and used.score else 0.0

        def answer(images: list[Tensor]) -> list[Prediction]:
            return predict(model, images, device=device, batch_size=batch_size, score=least)

        run = _answered(batches, answer, len(dataset), progress)
    batches.damage.report()
    common = {
        "task": dataset.task,
        "images": len(run.targets),
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(run.seconds, 3),
        "images_per_second": round(len(run.targets) / max(run.seconds, 1e-9), 2),
    }
    if isinstance(dataset, DetectionDataset):
        if used:
            common["thresholds"] = used.record()
        return _of_detector(common, dataset, run, score=score, voc_iou=voc_iou, details=details)
    left = [k for k in range(len(dataset)) if k not in batches.damage.found]
    return _of_classifier(common, dataset, run, left, details=details)


@dataclass(frozen=True)
class _Run:
    """What a model answered to a data set.

    targets: one per prediction. seconds: that the model took.
    """

    predictions: list[Prediction]
    targets: list[Target]
    seconds: float


def _answered(
    batches: Iterable[Batch],
    answer: Callable[[list[Tensor]], list[Prediction]],
    total: int,
    progress: Progress | None,
) -> _Run:
    predictions: list[Prediction] = []
    targets: list[Target] = []
    seconds = 0.0
    watch = SpeedWatch()
    for images, truth in batches:
        started = time.perf_counter()
        predictions += answer(images)
        took = time.perf_counter() - started
        watch.add(len(images), took)
        seconds += took
        targets += truth
        if progress:
            progress(len(targets), total)
    return _Run(predictions, targets, seconds)


def _of_detector(
    common: Json,
    dataset: DetectionDataset,
    run: _Run,
    *,
    score: float,
    voc_iou: Sequence[float],
    details: bool,
) -> Measured:
    if any((found["boxes"].shape[1] == 5) != dataset.oriented for found in run.predictions):
        there, wanted = ("oriented", "upright") if dataset.oriented else ("upright", "oriented")
        raise UsageError(f"the data has {there} boxes, the model finds {wanted} ones")
    ids = [t["image_id"] for t in run.targets]
    document = truth_of(dataset, set(ids))
    results = coco_results(run.predictions, ids, dataset.category_ids)
    figures = detection_figures(document, results, score=score, voc_iou=voc_iou, details=details)
    return Measured({**common, **figures}, document, results)


def _of_classifier(
    common: Json, dataset: AnyDataset, run: _Run, indices: list[int], *, details: bool
) -> Measured:
    """indices: of the pictures in the data set, which damaged ones are missing from."""
    figures = _classification(dataset.classes, run.predictions, run.targets)
    if not details:
        figures.pop("confusion", None)
    answers = _answers(indices, run.predictions, run.targets)
    return Measured({**common, **figures}, answers=answers)


def evaluate_results(
    truth: Json,
    results: list[Json],
    *,
    score: float = 0.5,
    voc_iou: Sequence[float] = VOC_IOU,
    details: bool = False,
) -> Measured:
    """Measure detections that any tool made; `evaluate`'s figures without those of a model."""
    figures = detection_figures(truth, results, score=score, voc_iou=voc_iou, details=details)
    common = {"task": "detection", "images": len(truth["images"])}
    return Measured({**common, **figures}, truth, results)


def detection_figures(
    truth: Json,
    results: list[Json],
    *,
    score: float = 0.5,
    voc_iou: Sequence[float] = VOC_IOU,
    details: bool = False,
) -> Json:
    """All figures of detections.

    Args:
        truth, results: as in `coco_metrics`. score: confidence of the operating point.
        voc_iou: IoUs at which VOC's figures are taken.
        details: give all that follows "and".

    Returns:
        JSON-able: `coco_metrics` and `operating_point`, their ``per_class`` rows joined; of
        oriented boxes ``angle_error`` at the operating point, see `angle_error`, and ``dota``, see
        `dota_metrics`; and
        ``curves`` (`coco_metrics`), ``voc`` (a list of `voc_metrics`, one per IoU),
        ``best_confidence``, and at the operating point ``confusion`` (`confusion_matrix`) and
        ``errors`` (`errors_by_kind`). Deterministic.
    """
    average = coco_metrics(truth, results, curves=details)
    _tell_of_limit(truth, results)
    categories = truth["categories"]
    matches = match_images(truth, results, score=score)
    point = at_confidence(matches, categories, score)
    more: Json = {}
    oriented = is_oriented(truth["annotations"] or results)
    if oriented:
        more["angle_error"] = angle_error(matches)
    if oriented and details:
        more["dota"] = dota_metrics(truth, results)
    if details:
        more |= {
            "voc": [voc_metrics(truth, results, iou=iou) for iou in voc_iou],
            "best_confidence": best_confidence(match_images(truth, results)),
            "confusion": confusion_matrix(matches, categories),
            "errors": errors_by_kind([mistakes_of(m) for m in matches], categories),
        }
    # pycocotools orders classes by category id, the operating point as the document does
    at_point = {row["name"]: row for row in point["per_class"]}
    per_class = [{**row, **at_point[row["name"]]} for row in average["per_class"]]
    return {**average, **point, **more, "per_class": per_class}


def _tell_of_limit(truth: Json, results: list[Json]) -> None:
    """Say where COCO's average precision leaves something out: 100 of a class a picture."""
    for what, rows in (("objects", truth["annotations"]), ("detections", results)):
        counts = Counter((row["image_id"], row["category_id"]) for row in rows)
        beyond = {image for (image, _), count in counts.items() if count > MOST_DETECTIONS}
        if beyond:
            log.warning(
                "%s with more than %d %s of one class: COCO's mAP takes the %d surest detections "
                "alone, so it can't reach 1 with more objects",
                counted(len(beyond), "picture", "pictures"),
                MOST_DETECTIONS,
                what,
                MOST_DETECTIONS,
            )


def truth_of(dataset: DetectionDataset, image_ids: set[int]) -> Json:
    """The data set's COCO document, of these images alone."""
    truth = dataset.to_coco()
    truth["images"] = [i for i in truth["images"] if i["id"] in image_ids]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in image_ids]
    return truth


def coco_results(
    predictions: list[Prediction], image_ids: list[int], category_ids: list[int]
) -> list[dict[str, Any]]:
    """Detections in COCO's result form: labels become the annotation's category ids again.

    Args:
        predictions: ``boxes`` ``[n, 4]`` xyxy pixels or ``[n, 5]`` cxcywhr, which stay so,
            ``scores``, ``labels`` from 1.
        image_ids: one per prediction. category_ids: of label 1, 2, ...
    """
    rows = []
    for image_id, found in zip(image_ids, predictions, strict=True):
        parts = (found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist())
        for box, score, label in zip(*parts, strict=True):
            rows.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[label - 1],
                    "bbox": _coco_box(box),
                    "score": score,
                }
            )
    return rows


def _coco_box(box: list[float]) -> list[float]:
    if len(box) == 5:
        return box
    x0, y0, x1, y1 = box
    return [x0, y0, x1 - x0, y1 - y0]


def _classification(
    classes: list[str], predictions: list[Prediction], targets: list[Target]
) -> Json:
    scores = torch.stack([p["scores"] for p in predictions]).float()
    key = "label" if "label" in targets[0] else "labels"
    wanted: Tensor = torch.stack([torch.as_tensor(t[key]) for t in targets])
    named = None
    if wanted.ndim == 2:
        # by the model's own thresholds, which need not be one for all classes
        named = torch.zeros_like(scores)
        for row, found in zip(named, predictions, strict=True):
            row[found["labels"]] = 1
    return classification_metrics(scores, wanted, classes, named=named)


def _answers(
    indices: list[int], predictions: list[Prediction], targets: list[Target]
) -> list[Json]:
    rows = []
    for index, found, target in zip(indices, predictions, targets, strict=True):
        several = "labels" in target
        wanted = target["labels"].nonzero()[:, 0] if several else target["label"].reshape(1)
        named = found["labels"] if several else found["scores"].argmax().reshape(1)
        rows.append(
            {
                "index": index,
                "truth": wanted.tolist(),
                "named": sorted(named.tolist()),
                "score": float(found["scores"].max()),
            }
        )
    return rows


def shown_rows(metrics: Json) -> list[Json]:
    """The rows of the classes, less those of 80 that no object and no detection is of."""
    rows = metrics["per_class"]
    return [r for r in rows if r["objects"] or r.get("wrong")] or rows
