"""From pictures to answers: tensors for programs, plain dicts for JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Prediction = dict[str, Tensor]


def as_float(images: Iterable[Tensor], device: torch.device | str) -> list[Tensor]:
    """Images as models take them: float32 ``[3, H, W]``, 0..1, on `device`.

    uint8 is divided by 255; float images are taken to be 0..1 already.
    """
    moved = (image.to(device) for image in images)
    return [i.float() / 255 if i.dtype == torch.uint8 else i.float() for i in moved]


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Sequence[Tensor],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 8,
    score: float = 0.0,
) -> list[Prediction]:
    """Run a model over images; the model's mode is as before afterwards.

    Args:
        model: any of detcore's models, already on `device`.
        images: ``[3, H, W]``, RGB, uint8 or float in 0..1; sizes may differ.
        device: where to compute.
        batch_size: images per forward pass.
        score: detections below this confidence are dropped.

    Returns:
        One dict per image, on the CPU. A detector's has ``boxes`` ``[n, 4]``, xyxy in pixels of the
        given image, or of an oriented one ``[n, 5]``, cxcywhr, ``scores`` ``[n]``, ``labels``
        ``[n]`` from 1, and what else the model says of each detection; a classifier's has
        ``scores`` ``[C]`` and ``labels``.
    """
    was_training, out = model.training, []
    model.eval()
    try:
        for start in range(0, len(images), batch_size):
            for answer in model(as_float(images[start : start + batch_size], device)):
                found = {k: v.cpu() for k, v in answer.items()}
                if "boxes" in found:
                    keep = found["scores"] >= score
                    found = {k: v[keep] for k, v in found.items()}
                out.append(found)
    finally:
        model.train(was_training)
    return out


def to_json(prediction: Prediction, classes: Sequence[str], image: Tensor) -> dict[str, Any]:
    """One prediction as plain numbers and names.

    Detector: ``width``, ``height`` and ``detections``: a list of ``class``, ``score``, ``box``
    xyxy in pixels, of an oriented one centre, width, height and degrees counter-clockwise, by
    descending score, and ``track`` where ``tracks`` has a number. Classifier:
    ``width``, ``height`` and ``classes``: a list of ``class``, ``score`` by descending score, of
    the classes that the model named: its top k, or with several labels per picture all above their
    thresholds, which may be none. Numbers are `shortest`.
    """
    size = {"width": image.shape[-1], "height": image.shape[-2]}
    if "boxes" not in prediction:
        scores = prediction["scores"].tolist()
        named = sorted(prediction["labels"].tolist(), key=lambda label: -scores[label])
        listed = [{"class": classes[k], "score": shortest(scores[k])} for k in named]
        return {**size, "classes": listed}
    order = prediction["scores"].argsort(descending=True, stable=True).tolist()
    rows = zip(*(prediction[k].tolist() for k in ("boxes", "scores", "labels")), strict=True)
    found: list[dict[str, Any]] = [
        {
            "class": classes[label - 1],
            "score": shortest(score),
            "box": [shortest(c) for c in box],
        }
        for box, score, label in rows
    ]
    if "tracks" in prediction:
        for row, number in zip(found, prediction["tracks"].tolist(), strict=True):
            if number >= 0:
                row["track"] = number
    return {**size, "detections": [found[i] for i in order]}


def shortest(value: float) -> float:
    """The decimal of fewest digits that float32 takes for `value`: 30.03, not 30.0300006866.

    People can read it, and nothing is lost: models answer in float32.
    """
    return float(str(np.float32(value)))
