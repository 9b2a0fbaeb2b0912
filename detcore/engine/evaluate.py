"""Run a model over a data set and measure it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from detcore.data import AnyDataset, DetectionDataset
from detcore.data.base import Target
from detcore.data.loader import evaluation_loader
from detcore.engine.metrics import Json, classification_metrics, coco_metrics, operating_point
from detcore.engine.predict import Prediction, predict

Progress = Callable[[int, int], None]


def evaluate(
    model: nn.Module,
    dataset: AnyDataset,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    score: float = 0.5,
    max_damaged: float = 0.05,
    progress: Progress | None = None,
) -> Json:
    """Measure a model on a data set; the data set's transforms should be none.

    Args:
        model: on `device`. dataset: with ground truth.
        score: confidence at which precision and recall are taken; average precision uses all.
        max_damaged: share of the pictures that may be damaged; these are left out, of the ground
            truth too, and named in the log.
        progress: called with (images done, images in all).

    Returns:
        JSON-able. Detection: `coco_metrics` and `operating_point` with their ``per_class`` rows
        joined. Classification: `classification_metrics`, of the best class of each image, or with
        several labels an image of the classes that the model named. Both: ``task``, ``images``,
        ``seconds`` in the model (reading the data not counted), ``images_per_second``.
        All but the two of time are deterministic on one device.
    """
    predictions: list[Prediction] = []
    targets: list[Target] = []
    seconds = 0.0
    batches = evaluation_loader(dataset, batch_size, max_damaged=max_damaged)
    for images, truth in batches:
        started = time.perf_counter()
        predictions += predict(model, images, device=device, batch_size=batch_size)
        seconds += time.perf_counter() - started
        targets += truth
        if progress:
            progress(len(targets), len(dataset))
    batches.damage.report()
    if isinstance(dataset, DetectionDataset):
        figures = _detection(dataset, predictions, targets, score)
    else:
        figures = _classification(dataset.classes, predictions, targets)
    return {
        "task": dataset.task,
        "images": len(targets),
        "seconds": round(seconds, 3),
        "images_per_second": round(len(targets) / max(seconds, 1e-9), 2),
        **figures,
    }


def coco_results(
    predictions: list[Prediction], image_ids: list[int], category_ids: list[int]
) -> list[dict[str, Any]]:
    """Detections in COCO's result form: labels become the annotation's category ids again.

    Args:
        predictions: ``boxes`` ``[n, 4]`` xyxy pixels, ``scores``, ``labels`` from 1.
        image_ids: one a prediction. category_ids: of label 1, 2, ...
    """
    rows = []
    for image_id, found in zip(image_ids, predictions, strict=True):
        parts = (found["boxes"].tolist(), found["scores"].tolist(), found["labels"].tolist())
        for (x0, y0, x1, y1), score, label in zip(*parts, strict=True):
            rows.append(
                {
                    "image_id": image_id,
                    "category_id": category_ids[label - 1],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": score,
                }
            )
    return rows


def _detection(
    dataset: DetectionDataset, predictions: list[Prediction], targets: list[Target], score: float
) -> Json:
    truth, seen = dataset.to_coco(), {t["image_id"] for t in targets}
    truth["images"] = [i for i in truth["images"] if i["id"] in seen]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in seen]
    results = coco_results(predictions, [t["image_id"] for t in targets], dataset.category_ids)
    average, point = coco_metrics(truth, results), operating_point(truth, results, score)
    # pycocotools orders classes by category id, the operating point as the document does
    at_point = {row["name"]: row for row in point["per_class"]}
    per_class = [{**row, **at_point[row["name"]]} for row in average["per_class"]]
    return {**average, **point, "per_class": per_class}


def _classification(
    classes: list[str], predictions: list[Prediction], targets: list[Target]
) -> Json:
    scores = torch.stack([p["scores"] for p in predictions]).float()
    key = "label" if "label" in targets[0] else "labels"
    wanted: Tensor = torch.stack([torch.as_tensor(t[key]) for t in targets])
    if wanted.ndim == 2:
        # what the model named by its own thresholds, which need not be one for all classes
        scores = torch.zeros_like(scores)
        for row, found in zip(scores, predictions, strict=True):
            row[found["labels"]] = 1
    return classification_metrics(scores, wanted, classes)
