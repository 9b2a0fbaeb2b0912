"""Figures of merit of classification scores, all of them computed by torchmetrics."""

from __future__ import annotations

import warnings
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
    functional: Any = require("torchmetrics.functional.classification", "torchmetrics")
    count, multilabel = len(classes), targets.ndim == 2
    if scores.shape != (len(targets), count):
        raise ValueError(
            f"classification_metrics: scores must be [{len(targets)}, {count}], "
            f"got {list(scores.shape)}"
        )
    if multilabel:
        targets = targets.long()
        answers, objects = (scores > 0.5 if named is None else named).float(), targets.sum(0)
    else:
        answers, objects = scores, torch.bincount(targets, minlength=count)
    if count == 1:
        # torchmetrics takes no single class. Beside one label a copy of it changes no mean, beside
        # one class an empty one is in none
        if multilabel:
            scores, targets, answers = (t.repeat(1, 2) for t in (scores, targets, answers))
        else:
            answers = torch.nn.functional.pad(scores, (0, 1), value=-torch.inf)
    kind, number = ("multilabel", "num_labels") if multilabel else ("multiclass", "num_classes")
    size = {number: max(count, 2)}

    def measure(name: str, average: str, given: Tensor = answers, **more: Any) -> Tensor:
        value: Tensor = getattr(functional, f"{kind}_{name}")(
            given, targets, average=average, **size, **more
        )
        return value

    figures: Json = {"accuracy": float(measure("accuracy", "micro"))}
    rows: list[Json] = [{"name": name} for name in classes]
    for short, name in _SHARES.items():
        figures[short] = float(measure(name, "macro"))
        _add(rows, short, measure(name, "none")[:count].tolist())
    figures["micro"] = {s: float(measure(name, "micro")) for s, name in _SHARES.items()}
    _add(rows, "objects", objects.tolist())
    if multilabel:
        with warnings.catch_warnings():
            # of classes that no picture shows; they get None
            warnings.filterwarnings("ignore", "No positive samples")
            every = measure("average_precision", "none", scores)[:count].tolist()
        every = [ap if shown else None for ap, shown in zip(every, objects.tolist(), strict=True)]
        _add(rows, "AP", every)
        known = [ap for ap in every if ap is not None]
        figures["mAP"] = sum(known) / len(known) if known else None
        tables = functional.multilabel_confusion_matrix(answers, targets, **size)[:count]
        # [C, 2, 2]: true no and yes by answered no and yes
        for key, (true, said) in (("matched", (1, 1)), ("wrong", (0, 1)), ("missed", (1, 0))):
            _add(rows, key, tables[:, true, said].tolist())
    else:
        figures["top5_accuracy"] = None
        if count > 5:
            figures["top5_accuracy"] = float(measure("accuracy", "micro", top_k=5))
        matrix = functional.multiclass_confusion_matrix(answers, targets, **size)[:count, :count]
        figures["confusion"] = {"classes": list(classes), "matrix": matrix.tolist()}
    return {**figures, "per_class": rows}


def _add(rows: list[Json], key: str, values: list[Any]) -> None:
    for row, value in zip(rows, values, strict=True):
        row[key] = value
