"""A run and its figures as they are seen on a terminal, or in a log file without one."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from torch import nn

from detcore.data import AnyDataset
from detcore.data.faults import counted
from detcore.engine.config import TrainConfig
from detcore.engine.devices import process_count
from detcore.engine.metrics import Json

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal to redraw


class TrainProgress:
    """Shows loss, learning rate, speed and time left; a `detcore.engine.train.Watcher`.

    On a terminal one line is redrawn; elsewhere a plain line comes every ten seconds. The loss
    shown is a running mean over about the last twenty steps. Use as a context manager.
    """

    def __init__(self, console: Console, batch_size: int) -> None:
        self.console, self.batch_size = console, batch_size
        self.bar = Progress(
            # bar and text together fit 80 characters
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=1.0, text="")
        self.loss: float | None = None
        self.last_line = time.perf_counter()

    def __enter__(self) -> TrainProgress:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def step(self, row: dict[str, float], remaining: float | None, share: float) -> None:
        loss = row["loss"]
        self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss
        speed = row["step"] * self.batch_size / max(row["seconds"], 1e-9)
        text = (
            f"step {int(row['step'])}  loss {self.loss:.3f}  lr {row['lr']:.2e}  "
            f"{speed:.1f} images/s  ETA {clock(remaining)}"
        )
        self.bar.update(self.task, completed=share, text=text)
        now = time.perf_counter()
        if not self.console.is_terminal and now - self.last_line >= _LINE_EVERY:
            self.last_line = now
            epoch = f"epoch {row['epoch']:.1f}  "
            self.console.print(epoch + text, highlight=False, soft_wrap=True)

    def evaluated(self, step: int, metrics: Json) -> None:
        self.console.print(f"step {step}: {headline(metrics)}", highlight=False, soft_wrap=True)


def headline(metrics: Json) -> str:
    """The figures that matter most, in one line."""
    wanted = ("mAP", "AP50", "AP75", "accuracy", "precision", "recall", "f1", "mean_iou")
    return "  ".join(f"{k} {metrics[k]:.3f}" for k in wanted if metrics.get(k) is not None)


def volume(metrics: Json) -> str:
    """How much was measured, and what it took: pictures, speed, parameters of the model."""
    text = counted(metrics["images"], "image", "images")
    if "parameters" in metrics:
        text += f", {metrics['images_per_second']} images/s"
        text += f", {metrics['parameters'] / 1e6:.2f} million parameters"
    return text


def clock(seconds: float | None) -> str:
    """Seconds as h:mm:ss or m:ss."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def summary(
    net: nn.Module, dataset: AnyDataset, val: AnyDataset | None, config: TrainConfig, out: Path
) -> Table:
    """What is about to be trained, on what, for how long."""
    table = Table(show_header=False, title="training")
    facts: Any = getattr(net, "config", {})
    backbone = facts.get("backbone", "")
    named = ", ".join(dataset.classes[:12]) + (", ..." if len(dataset.classes) > 12 else "")
    limits = [f"{v} {k}" for k in ("minutes", "epochs", "steps") if (v := getattr(config, k))]
    rows = {
        "model": facts.get("model", type(net).__name__),
        "backbone": backbone.get("name", "") if isinstance(backbone, dict) else backbone,
        "image size": facts.get("image_size", ""),
        "parameters": f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} million",
        "data": f"{config.data['spec']}: {len(dataset)} train, {len(val) if val else 0} val",
        "classes": f"{len(dataset.classes)}: {named}",
        "images a step": config.images_a_step(process_count()),
        "for": ", ".join(limits),
        "precision": "float32" if config.precision == "no" else config.precision,
        "out": out,
    }
    for key, value in rows.items():
        table.add_row(key, str(value))
    return table


def metrics_table(metrics: Json, title: str) -> Table:
    """`detcore.engine.evaluate`'s figures: a row a class of `shown_rows`, and one for all."""
    # spaces for rules between columns: ten of them must fit 80 characters
    table = Table(title=title, box=SIMPLE_HEAD, padding=0)
    columns = [k for k in metrics["per_class"][0] if k != "name"]
    for name in ("class", *columns):
        table.add_column(name, justify="left" if name == "class" else "right")
    for row in shown_rows(metrics):
        table.add_row(row["name"], *(_figure(row[c]) for c in columns))
    table.add_section()
    # what is called AP for one class is called mAP for all
    whole = {
        **metrics,
        "AP": metrics.get("mAP"),
        "objects": sum(r["objects"] for r in metrics["per_class"]),
    }
    for count in ("matched", "wrong", "missed"):
        whole[count] = sum(r.get(count, 0) for r in metrics["per_class"])
    table.add_row("all", *(_figure(whole[c]) for c in columns), style="bold")
    return table


def shown_rows(metrics: Json) -> list[Json]:
    """The rows of the classes, less those of 80 that no object and no detection is of."""
    rows = metrics["per_class"]
    return [r for r in rows if r["objects"] or r.get("wrong")] or rows


def detail_table(metrics: Json) -> Table:
    """What `metrics_table` has no column for: by size and number, VOC's rule, kinds of error."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))

    def add(text: str, keys: tuple[str, ...], where: Json) -> None:
        table.add_row(text, "  ".join(_figure(where[k]) for k in keys))

    if metrics["task"] == "detection":
        add("AP small, medium, large", ("AP_small", "AP_medium", "AP_large"), metrics)
        add("AR small, medium, large", ("AR_small", "AR_medium", "AR_large"), metrics)
        add("AR of 1, 10, 100 detections", ("AR1", "AR10", "AR100"), metrics)
        add("VOC AP50, 11 and all points", ("AP_11_point", "AP_all_point"), metrics["voc"])
        if best := metrics["best_confidence"]:
            table.add_row("highest F1", f"{best['f1']:.3f} at confidence {best['score']:.3f}")
        counts = metrics["errors"]["counts"]
        table.add_row("errors", ", ".join(f"{n} {kind}" for kind, n in counts.items()))
        return table
    add("precision, recall, F1 over all answers", ("precision", "recall", "f1"), metrics["micro"])
    if metrics.get("top5_accuracy") is not None:
        add("top-5 accuracy", ("top5_accuracy",), metrics)
    return table


def _figure(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
