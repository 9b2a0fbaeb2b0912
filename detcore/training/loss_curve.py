"""A run's loss, scores and learning rate as a picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from detcore.utils.atomic_write import atomic
from detcore.utils.optional_imports import require


def loss_curve(log: Path, out: Path, evaluations: Path | None = None) -> None:
    """Draw a run's ``log.csv`` as a PNG: the loss with its parts, and the learning rate below.

    Args:
        log: as `detcore.training.trainer` writes it. out: PNG, written whole or not at all.
        evaluations: the run's ``val.csv``; its score, mAP or accuracy, is drawn between the two.
            Left out where the file is missing.

    Raises:
        ValueError: the log has no rows.
        MissingPackage: matplotlib is not installed.
    """
    rows = _rows(log)
    if not rows:
        raise ValueError(f"loss_curve: {log} has no rows")
    judged = _rows(evaluations) if evaluations is not None and evaluations.exists() else []
    heights = (3, 1.5, 1) if judged else (3, 1)
    figure: Any = require("matplotlib.figure").Figure(
        figsize=(8, 6.5 if judged else 5), layout="constrained"
    )
    top, *middle, low = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    steps = [row["step"] for row in rows]
    parts = [k for k in rows[0] if k not in ("step", "epoch", "seconds", "lr", "grad_norm")]
    parts = [p for p in parts if p != "loss" and len(parts) > 2]
    for name in ("loss", *parts):
        strong = name == "loss"
        top.plot(
            steps,
            [row[name] for row in rows],
            label=name,
            color="black" if strong else None,
            linewidth=1.6 if strong else 1,
        )
    if any(row["loss"] > 0 for row in rows):
        top.set_yscale("log")  # a loss falls by factors: on a linear axis only the start is seen
        _label_few(top)
    top.set_ylabel("loss")
    top.legend()
    for panel in middle:
        for name in [k for k in ("mAP", "AP50", "accuracy") if k in judged[0]]:
            panel.plot([r["step"] for r in judged], [r[name] for r in judged], ".-", label=name)
        panel.set_ylim(0, 1)
        panel.set_ylabel("val score")
        panel.legend(loc="lower right")  # scores rise: the least is above it
    low.plot(steps, [row["lr"] for row in rows], color="tab:green")
    low.set_ylabel("learning rate")
    low.set_xlabel("step")
    for panel in (top, *middle, low):
        panel.grid(alpha=0.3)
    with atomic(out) as aside:
        figure.savefig(aside, dpi=110)


def _label_few(axes: Any) -> None:
    """Label a log axis at so few places that no label meets the next: 1, 2, 5, or decades."""
    ticker: Any = require("matplotlib.ticker")
    low, high = axes.get_ylim()
    if high / low < 5:  # else there may be one label, or none
        places = ticker.MaxNLocator(6)
    else:
        places = ticker.LogLocator(subs=(1, 2, 5) if high / low < 1e4 else (1,))
    axes.yaxis.set_major_locator(places)
    axes.yaxis.set_major_formatter("{x:g}")  # 0.5 is read more easily than 5 x 10^-1
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())


def _rows(table: Path) -> list[dict[str, float]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]
