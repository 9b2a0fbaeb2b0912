"""A training run as it is seen on a terminal, or in a log file without one."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from torch import nn

from detcore.commands.console_tables import headline
from detcore.data import AnyDataset
from detcore.training.config import TrainConfig
from detcore.training.distributed import process_count
from detcore.utils.json_types import Json
from detcore.utils.speed_watch import SpeedWatch

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal to redraw


class TrainProgress:
    """Shows loss, learning rate, speed and time left; a `detcore.training.trainer.Watcher`.

    On a terminal one line is redrawn; elsewhere a plain line comes every ten seconds. The loss
    shown is a running mean over about the last twenty steps. Use as a context manager.
    """

    def __init__(self, console: Console, batch_size: int) -> None:
        self.console, self.batch_size = console, batch_size
        self.bar = Progress(
            # bar and text together fit 80 characters
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}", markup=False),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("training", total=1.0, text="")
        self.loss: float | None = None
        self.last_line = time.perf_counter()
        self.watch, self.last_step = SpeedWatch(), self.last_line

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
        """Show loss, learning rate, speed and time left after one step of the optimizer."""
        loss = row["loss"]
        self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss
        speed = row["step"] * self.batch_size / max(row["seconds"], 1e-9)
        text = (
            f"step {int(row['step'])}  loss {self.loss:.3f}  lr {row['lr']:.2e}  "
            f"{speed:.1f} images/s  ETA {clock(remaining)}"
        )
        self.bar.update(self.task, completed=share, text=text)
        now = time.perf_counter()
        self.watch.add(self.batch_size, now - self.last_step)
        self.last_step = now
        if not self.console.is_terminal and now - self.last_line >= _LINE_EVERY:
            self.last_line = now
            epoch = f"epoch {row['epoch']:.1f}  "
            self.console.print(epoch + text, highlight=False, soft_wrap=True)

    def evaluated(self, step: int, metrics: Json) -> None:
        """Print the figures of an evaluation on a line of its own."""
        self.console.print(f"step {step}: {headline(metrics)}", highlight=False, soft_wrap=True)
        self.last_step = time.perf_counter()  # what the evaluation took is no step's


def clock(seconds: float | None) -> str:
    """Seconds as h:mm:ss or m:ss."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _backbone(facts: Any) -> str:
    said = facts.get("backbone", "")
    return str(said.get("name", "") if isinstance(said, dict) else said)


def _part(facts: Any) -> str:
    """A cascade's part: model, backbone and size."""
    facts = facts or {}
    said = (facts.get("model", ""), _backbone(facts), facts.get("image_size", ""))
    return ", ".join(str(one) for one in said if one)


def summary(
    net: nn.Module, dataset: AnyDataset, val: AnyDataset | None, config: TrainConfig, out: Path
) -> Table:
    """What is about to be trained, on what, for how long."""
    table = Table(show_header=False, title="training")
    facts: Any = getattr(net, "config", {})
    named = ", ".join(dataset.classes[:12]) + (", ..." if len(dataset.classes) > 12 else "")
    limits = [f"{v} {k}" for k in ("minutes", "epochs", "steps") if (v := getattr(config, k))]
    rows = {
        "model": facts.get("model", type(net).__name__),
        "backbone": _backbone(facts),
        **{part: _part(facts[part]) for part in ("detector", "classifier") if part in facts},
        "image size": facts.get("image_size", ""),
        "parameters": f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} million",
        "data": f"{config.data['spec']}: {len(dataset)} train, {len(val) if val else 0} val",
        "classes": f"{len(dataset.classes)}: {named}",
        "images per step": config.images_per_step(process_count()),
        "for": ", ".join(limits),
        "precision": "float32" if config.precision == "no" else config.precision,
        "out": out,
    }
    for key, value in rows.items():
        table.add_row(key, str(value))
    return table
