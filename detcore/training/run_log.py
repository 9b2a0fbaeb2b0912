"""What a run writes down while it goes: CSV files, and TensorBoard's where it is asked for."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from detcore.utils.atomic_write import unwritten, write_csv
from detcore.utils.json_types import Json
from detcore.utils.optional_imports import MissingPackage

Row = dict[str, float]
# of the last step in a window, not its mean
_POSITIONS = ("step", "epoch", "seconds")
# floats of an evaluation that say nothing of how good the model is
_NO_SCORES = ("seconds", "images_per_second", "score")


class Log:
    """``log.csv``, rows of means over `every` steps, and ``val.csv``, a row per evaluation.

    Args:
        folder: where to; None writes nothing.
        every: steps per row. resumed_at, evaluated_at: the steps that a resumed run has taken, and
            those at its last evaluation; what was written of later ones is cut off, since it will
            be written again; 0 begins a new file. pending: the steps of the row that is open then.
        tensorboard: write events too, into ``tensorboard`` in the folder.

    Raises:
        MissingPackage: TensorBoard is asked for and not installed.
    """

    def __init__(
        self,
        folder: Path | None,
        every: int,
        *,
        resumed_at: int = 0,
        evaluated_at: int = 0,
        pending: list[Row] | None = None,
        tensorboard: bool = False,
    ) -> None:
        self.every = max(1, every)
        self.pending = list(pending or [])
        # an ended run has written its open row, as it stood
        whole = resumed_at - len(self.pending)
        self.steps = _Table(folder / "log.csv" if folder else None, whole)
        self.evaluations = _Table(folder / "val.csv" if folder else None, evaluated_at)
        self.board: Any = None
        if tensorboard and folder:
            # what an earlier process wrote of later steps is hidden
            purge = resumed_at + 1 if resumed_at else None
            self.board = summary_writer()(str(folder / "tensorboard"), purge_step=purge)

    def add(self, row: Row) -> None:
        """Take in a step's figures; every `every` steps a row is written."""
        self.pending.append(row)
        if len(self.pending) >= self.every:
            self._write()

    def evaluated(self, step: int, epoch: float, metrics: Json) -> None:
        """Write an evaluation's figures for all classes together."""
        figures = {
            k: math.nan if v is None else v
            for k, v in metrics.items()
            if k not in _NO_SCORES and (v is None or isinstance(v, float))
        }
        self.evaluations.add({"step": float(step), "epoch": epoch, **figures})
        if self.board:
            for name, value in figures.items():
                self.board.add_scalar(f"val/{name}", value, step)

    def close(self) -> None:
        """Write what is pending."""
        if self.pending:
            self._write()
        if self.board:
            self.board.close()

    def _write(self) -> None:
        rows, self.pending = self.pending, []
        sums: Row = defaultdict(float)
        for row in rows:
            for key in rows[0]:
                sums[key] += row.get(key, math.nan) / len(rows)
        mean = {k: rows[-1][k] if k in _POSITIONS else v for k, v in sums.items()}
        self.steps.add(mean)
        if self.board:
            for name, value in mean.items():
                self.board.add_scalar(f"train/{name}", value, int(mean["step"]))


class _Table:
    """A CSV file whose header is the first row's keys, with a column ``step``."""

    def __init__(self, path: Path | None, resumed_at: int) -> None:
        self.path = path
        self.columns: list[str] | None = None
        if path is not None and path.exists():
            self._cut(path, resumed_at)

    def add(self, row: Row) -> None:
        if self.path is None:
            return
        begins = self.columns is None
        self.columns = self.columns or list(row)
        try:
            with self.path.open("w" if begins else "a", newline="", encoding="utf-8") as stream:
                writer = csv.writer(stream)
                if begins:
                    writer.writerow(self.columns)
                writer.writerow([_short(k, row.get(k, math.nan)) for k in self.columns])
        except OSError as error:
            raise unwritten(self.path, error) from error

    def _cut(self, path: Path, step: int) -> None:
        if step <= 0:
            path.unlink()  # another run's, and perhaps no table of steps at all
            return
        with path.open(newline="", encoding="utf-8") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
        # a run killed while it wrote leaves half a row, of a later step than its last saved one
        kept = [r for r in rows if len(r) == len(header) and int(r[0]) <= step]
        self.columns = header
        write_csv(path, [header, *kept])


def _short(key: str, value: float) -> str:
    return str(int(value)) if key == "step" else f"{value:.6g}"


def summary_writer() -> Any:
    """TensorBoard's writer class, as torch has it.

    Raises:
        MissingPackage: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingPackage(
            "logging for TensorBoard needs tensorboard: pip install 'detcore[tensorboard]'"
        ) from error
    return SummaryWriter
