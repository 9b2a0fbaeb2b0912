"""Figures of merit of classification scores, all of them computed by torchmetrics."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detcore.utils.json_types import Json
from detcore.utils.optional_imports import require

_SHARES = {"precision": "precision", "recall": "recall", "f1": "f1_score"}


def classification_metrics(
    scores: Tensor, targets: Tensor, classes: list[str], *, named: Tensor | None = None
) -> Json:
    """Accuracy, precision, recall and F1; of several labels per picture also average precision.

    Args:
        scores: ``[N, C]`` probabilities.
        targets: int64 ``[N]`` class numbers, or multi-label ``[N, C]`` zeros and ones.
        classes: C names.
        named: multi-label ``[N, C]`` zeros and ones, the model's yes and no, which need not be
            made with one threshold for all; None: a score above 0.5 says yes.

    Returns:
        ``accuracy`` (share of pictures right; multi-label: share of single yes/no answers
        right), ``precision``, ``recall``, ``f1`` (means over classes, "macro"), ``micro``: the
        three over all answers, and ``per_class``: ``name``, ``precision``, ``recall``, ``f1``,
        ``objects``. With one label a picture also ``top5_accuracy`` (None with 5 classes or
        fewer, where it says nothing) and ``confusion``: ``classes`` and ``matrix``, a row per true
        class, a column per class named. Multi-label also ``mAP``, the mean of each class's ``AP``
        (None for one that no picture shows), and in ``per_class`` ``matched``, ``wrong``,
        ``missed``.

    Raises:
        ValueError: shapes that don't belong together.
    """
    if scores.shape != (len(targets), len(classes)):
        raise ValueError(
            f"classification_metrics: scores must be [{len(targets)}, {len(classes)}], "
            f"got {list(scores.shape)}"
        )
    if targets.ndim == 2:
        said = (scores > 0.5 if named is None else named).float()
        return _of_several_labels(scores, targets.long(), said, classes)
    return _of_one_label(scores, targets, classes)


def _of_one_label(scores: Tensor, targets: Tensor, classes: list[str]) -> Json:
    count = len(classes)
    objects = torch.bincount(targets, minlength=count)
    if count == 1:
        # torchmetrics takes no single class; an empty one beside it is in no mean
        scores = torch.nn.functional.pad(scores, (0, 1), value=-torch.inf)
    measure = _Measure("multiclass", {"num_classes": max(count, 2)}, targets)
    figures, rows = _shares(measure, scores, classes, objects)
    top5 = float(measure("accuracy", scores, average="micro", top_k=5)) if count > 5 else None
    matrix = measure("confusion_matrix", scores)[:count, :count]
    figures["top5_accuracy"] = top5
    figures["confusion"] = {"classes": list(classes), "matrix": matrix.tolist()}
    return {**figures, "per_class": rows}


def _of_several_labels(scores: Tensor, targets: Tensor, said: Tensor, classes: list[str]) -> Json:
    """targets, said: [N, C] zeros and ones, what is true and what the model names."""
    count = len(classes)
    objects = targets.sum(0)
    if count == 1:
        # torchmetrics takes no single class; a copy of it changes no mean
        scores, targets, said = (t.repeat(1, 2) for t in (scores, targets, said))
    measure = _Measure("multilabel", {"num_labels": max(count, 2)}, targets)
    figures, rows = _shares(measure, said, classes, objects)
    with warnings.catch_warnings():
        # of classes that no picture shows; they get None
        warnings.filterwarnings("ignore", "No positive samples")
        every = measure("average_precision", scores, average="none")[:count].tolist()
    every = [ap if shown else None for ap, shown in zip(every, objects.tolist(), strict=True)]
    _add(rows, "AP", every)
    known = [ap for ap in every if ap is not None]
    figures["mAP"] = sum(known) / len(known) if known else None
    # [C, 2, 2]: true no and yes by answered no and yes
    tables = measure("confusion_matrix", said)[:count]
    for key, (true, answered) in (("matched", (1, 1)), ("wrong", (0, 1)), ("missed", (1, 0))):
        _add(rows, key, tables[:, true, answered].tolist())
    return {**figures, "per_class": rows}


@dataclass(frozen=True)
class _Measure:
    """torchmetrics' functions for one kind of targets, called by the rest of their names.

    kind: the first word of their names. size: their number of classes, as they call it.
    """

    kind: str
    size: dict[str, int]
    targets: Tensor

    def __call__(self, name: str, given: Tensor, **more: Any) -> Tensor:
        functional: Any = require("torchmetrics.functional.classification", "torchmetrics")
        value: Tensor = getattr(functional, f"{self.kind}_{name}")(
            given, self.targets, **self.size, **more
        )
        return value


def _shares(
    measure: _Measure, answers: Tensor, classes: list[str], objects: Tensor
) -> tuple[Json, list[Json]]:
    """What both kinds have: figures over the classes, and the rows of the classes."""
    figures: Json = {"accuracy": float(measure("accuracy", answers, average="micro"))}
    rows: list[Json] = [{"name": name} for name in classes]
    for short, name in _SHARES.items():
        figures[short] = float(measure(name, answers, average="macro"))
        _add(rows, short, measure(name, answers, average="none")[: len(classes)].tolist())
    figures["micro"] = {
        short: float(measure(name, answers, average="micro")) for short, name in _SHARES.items()
    }
    _add(rows, "objects", objects.tolist())
    return figures, rows


def _add(rows: list[Json], key: str, values: list[Any]) -> None:
    for row, value in zip(rows, values, strict=True):
        row[key] = value
