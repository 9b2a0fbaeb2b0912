"""An evaluation's figures as matplotlib draws them: curves, a confusion matrix, errors by kind."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from detcore.evaluation.evaluator import shown_rows
from detcore.utils.atomic_write import atomic
from detcore.utils.json_types import Json
from detcore.utils.optional_imports import require

_NAMED = 12  # curves that get a colour and a name; more can't be told apart
_ALL = 25  # classes up to which the empty ones are shown too
_COUNTED = 60  # classes up to which a cell's count, or a class's line, can be read


def precision_recall(metrics: Json) -> Any:
    """Precision over recall at IoU 0.5, a line per class and a heavy one for their mean.

    Args:
        metrics: `detcore.evaluation.evaluator.detection_figures` with details.

    Returns:
        A ``matplotlib.figure.Figure``. With more than 12 classes the single lines are grey. The
        operating point is of all detections, so that frequent classes weigh more there than in
        the mean of the classes: it need not lie on that line.
    """
    figure, axis = _figure(6.4, 4.8)
    curves = metrics["curves"]
    known = [c for c in curves["per_class"] if c["precision"] is not None]
    few = len(known) <= _NAMED
    for curve in known:
        axis.plot(
            curves["recall"],
            curve["precision"],
            linewidth=1.2,
            color=None if few else "0.8",
            label=curve["name"] if few else None,
        )
    if known:
        mean = np.mean([c["precision"] for c in known], axis=0)
        axis.plot(curves["recall"], mean, color="black", linewidth=2.4, label="mean of the classes")
    if metrics["precision"] is not None and metrics["recall"] is not None:
        axis.plot(
            metrics["recall"],
            metrics["precision"],
            "o",
            color="black",
            markerfacecolor="white",
            label=f"all detections together, at confidence {metrics['score']:g}",
        )
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.03))
    axis.grid(alpha=0.3)
    if axis.lines:
        axis.legend(fontsize=8, loc="lower left")
    return figure


def confusion(table: Json) -> Any:
    """A confusion matrix as a heat map: colour by the share of the true class, counts in the cells.

    Args:
        table: ``classes`` and ``matrix``, a row per true class, as `confusion_matrix` and
            `classification_metrics` give it. Beyond 25 classes those that nothing is, and
            nothing was named, are left out; beyond 60 that remain, the counts.

    Returns:
        A ``matplotlib.figure.Figure``.
    """
    names, matrix = table["classes"], np.array(table["matrix"], np.float64)
    if len(names) > _ALL:
        there = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
        names, matrix = [names[k] for k in there], matrix[np.ix_(there, there)]
    count = len(names)
    side = min(12.0, 3.2 + 0.42 * count)
    figure, axis = _figure(side, side * 0.92)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axis.set(xlabel="named", ylabel="true")
    size = max(4, min(9, 400 // count))
    # side by side as long as the letters have room
    turned = max(map(len, names), default=0) > 3 or count > _ALL
    axis.set_xticks(range(count), names, rotation=90 if turned else 0, fontsize=size)
    axis.set_yticks(range(count), names, fontsize=size)
    if count <= _COUNTED:
        for row, column in np.argwhere(matrix > 0).tolist():
            dark = share[row, column] > 0.55
            axis.text(
                column,
                row,
                f"{matrix[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=min(8, size),
                color="white" if dark else "black",
            )
    figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
    return figure


def class_marks(metrics: Json) -> Any:
    """A line per class with a mark for each of its figures: precision, recall, F1, AP.

    Args:
        metrics: `classification_metrics`' of several labels per picture. Classes without objects
            and answers are left out, and of more than 60 all but those of the lowest F1.

    Returns:
        A ``matplotlib.figure.Figure``.
    """
    rows = shown_rows(metrics)
    if len(rows) > _COUNTED:
        lowest = sorted(row["f1"] for row in rows)[:_COUNTED][-1]
        rows = [row for row in rows if row["f1"] <= lowest][:_COUNTED]
    figure, axis = _figure(6.4, 1.4 + 0.26 * len(rows))
    places = range(len(rows))
    axis.hlines(places, 0, 1, color="0.9", linewidth=1)
    marks = {"precision": ">", "recall": "<", "f1": "o", "AP": "D"}
    for key, mark in marks.items():
        values = [np.nan if row[key] is None else row[key] for row in rows]
        label = "F1" if key == "f1" else key
        axis.plot(values, places, mark, alpha=0.75, label=label)
    axis.set_yticks(places, [row["name"] for row in rows], fontsize=9)
    axis.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.4, -0.6))
    axis.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    for edge in ("top", "right", "left"):
        axis.spines[edge].set_visible(False)
    return figure


def error_bars(counts: Json) -> Any:
    """A bar a kind of error; `counts` are `errors_by_kind`'s. A ``matplotlib.figure.Figure``."""
    figure, axis = _figure(6.4, 2.8)
    kinds = list(counts)
    bars = axis.barh(kinds, [counts[k] for k in kinds], color="tab:red")
    bars[kinds.index("missed")].set_color("tab:blue")
    axis.bar_label(bars, padding=3)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_xlabel("count")
    axis.xaxis.get_major_locator().set_params(integer=True)
    for edge in ("top", "right"):
        axis.spines[edge].set_visible(False)
    return figure


def png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def save_figures(metrics: Json, folder: Path) -> list[str]:
    """Write the figures that an evaluation with details has, each a PNG, whole or not at all.

    Returns:
        Their names: of a detector precision_recall.png, errors.png and confusion.png, of a
        classifier confusion.png, or with several labels per picture classes.png.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    if "curves" in metrics:
        drawn["precision_recall.png"] = precision_recall(metrics)
        drawn["errors.png"] = error_bars(metrics["errors"]["counts"])
    if "confusion" in metrics:
        drawn["confusion.png"] = confusion(metrics["confusion"])
    else:
        drawn["classes.png"] = class_marks(metrics)
    for name, figure in drawn.items():
        with atomic(folder / name) as aside:
            aside.write_bytes(png(figure))
    return list(drawn)


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """Figure and axes, inches; no pyplot, which would keep every figure alive."""
    figure = require("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
