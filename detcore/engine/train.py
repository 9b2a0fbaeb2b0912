"""One training loop for all models."""

from __future__ import annotations

import csv
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn

from detcore.data import AnyDataset
from detcore.data.base import Target, Transform
from detcore.data.loader import Stream, training_loader
from detcore.engine import checkpoint
from detcore.engine.checkpoint import CheckpointInfo
from detcore.engine.ema import Ema
from detcore.engine.evaluate import evaluate
from detcore.engine.metrics import Json
from detcore.engine.predict import as_float
from detcore.engine.schedule import Schedule, make_optimizer


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; the text names the step and the images."""


@dataclass(frozen=True)
class TrainConfig:
    """Arguments of a training run.

    epochs, steps, minutes: how long; the first to run out ends it. At least one must be given.
    lr: highest learning rate. warmup: share of the run. clip: greatest norm of all gradients
    together, 0 for none. ema: decay of the averaged weights that are evaluated and saved, 0 for
    none. seed: of order, augmentation and the model's own sampling. eval_every: epochs between
    evaluations, 0 for one at the end alone. save_minutes: between savings of ``last``.
    precision: "no", "bf16" or "fp16" (see `fast_precision`). workers: loader processes.
    device: "auto", "cpu", "cuda". group_aspect, max_damaged: see `detcore.data.loader.Stream`.
    data: kept for the record in the checkpoint.

    With steps or epochs, one thread count and one machine, a run is repeatable; with minutes not.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 16
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.02
    warmup: float = 0.05
    clip: float = 10.0
    ema: float = 0.0
    seed: int = 0
    eval_every: float = 0.0
    save_minutes: float = 5.0
    log_every: int = 10
    workers: int = 0
    precision: str = "no"
    device: str = "auto"
    group_aspect: bool = False
    max_damaged: float = 0.05
    data: dict[str, Any] = field(default_factory=dict)

    def total_steps(self, length: int) -> int | None:
        """Steps that `epochs` and `steps` allow on a data set of `length` items."""
        by_epochs = (
            None if self.epochs is None else math.ceil(self.epochs * length / self.batch_size)
        )
        given = [s for s in (by_epochs, self.steps) if s is not None]
        return max(1, min(given)) if given else None


@dataclass
class TrainResult:
    """What a run came to. metrics: of the last evaluation, empty without one; best: the highest
    score, mAP or accuracy; interrupted: whether the user ended it."""

    steps: int
    seconds: float
    metrics: Json
    best: float | None = None
    interrupted: bool = False


class Watcher(Protocol):
    """Is told how a run goes: see `detcore.engine.report`."""

    def step(self, row: dict[str, float], remaining: float | None, share: float) -> None: ...

    def evaluated(self, step: int, metrics: Json) -> None: ...


def train(
    model: nn.Module,
    dataset: AnyDataset,
    config: TrainConfig,
    *,
    out: Path | None = None,
    val: AnyDataset | None = None,
    augment: Transform | None = None,
    watcher: Watcher | None = None,
) -> TrainResult:
    """Train a model in place.

    Args:
        model: any of detcore's. dataset: its training data. config: how.
        out: folder for ``last`` and ``best`` checkpoints (best: by mAP or accuracy on `val`) and
            ``log.csv`` (loss and its parts, learning rate, gradient norm: means over
            `config.log_every` steps). An earlier run's there are replaced. None writes nothing.
        val: is evaluated at the end and every `config.eval_every` epochs.
        augment: applied to each training item.
        watcher: is told of every step and evaluation.

    Ctrl-C ends the run as if its time were over: weights are saved.

    Raises:
        TrainingDiverged: a loss of NaN or infinity.
        DataError: more pictures are damaged than `TrainConfig.max_damaged`; fewer are left out.
        ValueError: a configuration that makes no sense, or targets that don't fit the model.
    """
    if not (config.epochs or config.steps or config.minutes):
        raise ValueError("TrainConfig: give epochs, steps or minutes")
    return _Run(model, dataset, config, out, val, augment, watcher).run()


def fast_precision(device: str) -> str:
    """ "bf16" where the device computes in it natively, else "no".

    Elsewhere bfloat16 is emulated and slower than float32. device: "auto", "cpu" or "cuda...".
    """
    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    # no public name for it yet; without it the safe answer
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return "bf16" if native() else "no"


class _Run:
    def __init__(
        self,
        model: nn.Module,
        dataset: AnyDataset,
        config: TrainConfig,
        out: Path | None,
        val: AnyDataset | None,
        augment: Transform | None,
        watcher: Watcher | None,
    ) -> None:
        self.config, self.dataset, self.val, self.out = config, dataset, val, out
        self.watcher = watcher
        torch.manual_seed(config.seed)
        self.accelerator = _accelerator(config)
        # convolutions run about a sixth faster so on the CPU, and tensor cores want it too
        model = model.to(memory_format=torch.channels_last)
        optimizer = make_optimizer(model, config.optimizer, config.lr, config.weight_decay)
        self.ema = Ema(model, config.ema) if config.ema else None
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.plain = model
        stream = Stream(
            config.batch_size,
            config.seed,
            config.workers,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            group_aspect=config.group_aspect,
            max_damaged=config.max_damaged,
        )
        self.loader = training_loader(dataset, stream, augment)
        self.schedule = Schedule(config.total_steps(len(dataset)), config.minutes, config.warmup)
        self.log = _Log(out / "log.csv" if out and self._is_main else None, config.log_every)
        self.result = TrainResult(0, 0.0, {})
        self.evaluated_at = -1

    @property
    def _is_main(self) -> bool:
        return bool(self.accelerator.is_main_process)

    def run(self) -> TrainResult:
        if self.out:
            self.out.mkdir(parents=True, exist_ok=True)
            for stale in self.out.glob("best.*"):
                stale.unlink()  # an earlier run's best would be taken for this one's
        self.model.train()
        self.schedule.restart()
        saved = time.perf_counter()
        step = 0
        try:
            for images, targets in self.loader:
                step += 1
                self._step(step, images, targets)
                if self.schedule.share(step) >= 1:
                    break
                if self._evaluation_due(step):
                    self._evaluate(step)
                    saved = self._save("last", step)
                elif time.perf_counter() - saved > 60 * self.config.save_minutes:
                    saved = self._save("last", step)
        except KeyboardInterrupt:
            self.result.interrupted = True
        self.result.steps, self.result.seconds = step, self.schedule.elapsed()
        self.log.close()
        self.loader.damage.report()
        # the caller gets the model without accelerate's mixed precision
        self.plain.__dict__.pop("forward", None)
        if not self.result.interrupted:
            self._evaluate(step)
        self._save("last", step)
        return self.result

    def _step(self, step: int, images: list[Tensor], targets: list[Target]) -> None:
        share = self.schedule.share(step - 1)
        lr = self.config.lr * self.schedule.factor(share)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        device = self.accelerator.device
        losses = self.model(as_float(images, device), [_to(t, device) for t in targets])
        loss = torch.stack(list(losses.values())).sum()
        value = float(loss.detach())
        if not math.isfinite(value):
            parts = ", ".join(f"{k} {float(v.detach()):.4g}" for k, v in losses.items())
            raise TrainingDiverged(
                f"the loss became {value} at step {step} ({parts}), learning rate {lr:.3g}, image "
                f"ids {[t['image_id'] for t in targets]}; try a lower --lr or --clip"
            )
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        norm = self._clip()
        self.optimizer.step()
        if self.ema:
            self.ema.update(self.plain)
        world = self.accelerator.num_processes
        row = {
            "step": float(step),
            "epoch": step * self.config.batch_size * world / len(self.dataset),
            "seconds": self.schedule.elapsed(),
            "lr": lr,
            "grad_norm": norm,
            "loss": value,
            **{k: float(v.detach()) for k, v in losses.items()},
        }
        self.log.add(row)
        if self.watcher and self._is_main:
            self.watcher.step(row, self.schedule.remaining(step), self.schedule.share(step))

    def _clip(self) -> float:
        limit = self.config.clip or math.inf
        return float(self.accelerator.clip_grad_norm_(self.model.parameters(), limit))

    def _evaluation_due(self, step: int) -> bool:
        every, done = self.config.eval_every, step * self.config.batch_size / len(self.dataset)
        before = (step - 1) * self.config.batch_size / len(self.dataset)
        return bool(every and self.val is not None and done // every > before // every)

    def _evaluate(self, step: int) -> None:
        if self.val is None or step == self.evaluated_at or not self._is_main:
            return
        self.evaluated_at = step
        with _own_forward(self.plain):
            metrics = evaluate(
                self._best_weights,
                self.val,
                device=self.accelerator.device,
                batch_size=self.config.batch_size,
                max_damaged=self.config.max_damaged,
            )
        self.result.metrics = metrics
        score = metrics.get("mAP" if "mAP" in metrics else "accuracy") or 0.0
        if self.result.best is None or score >= self.result.best:
            self.result.best = score
            self._save("best", step)
        if self.watcher:
            self.watcher.evaluated(step, metrics)

    @property
    def _best_weights(self) -> nn.Module:
        return self.ema.model if self.ema else self.plain

    def _save(self, name: str, step: int) -> float:
        if self.out and self._is_main:
            info = CheckpointInfo(
                model=self._best_weights.config,  # type: ignore[arg-type]
                classes=self.dataset.classes,
                task=self.dataset.task,
                data=self.config.data,
                training=asdict(self.config),
                step=step,
                metrics=self.result.metrics if self.evaluated_at == step else {},
            )
            checkpoint.save(self.out / f"{name}.safetensors", self._best_weights, info)
        return time.perf_counter()


class _Log:
    """Rows of numbers, written as means over `every` steps; the header is the first row's keys."""

    def __init__(self, path: Path | None, every: int) -> None:
        self.path, self.every = path, max(1, every)
        self.pending: list[dict[str, float]] = []
        self.columns: list[str] | None = None

    def add(self, row: dict[str, float]) -> None:
        self.pending.append(row)
        if len(self.pending) >= self.every:
            self._write()

    def close(self) -> None:
        if self.pending:
            self._write()

    def _write(self) -> None:
        rows, self.pending = self.pending, []
        if self.path is None:
            return
        begins = self.columns is None
        self.columns = self.columns or list(rows[0])
        # how far the run is belongs to the last step of the window, all else is a mean
        sums: dict[str, float] = defaultdict(float)
        for row in rows:
            for key in self.columns:
                sums[key] += row.get(key, math.nan) / len(rows)
        mean = {k: rows[-1][k] if k in ("step", "epoch", "seconds") else v for k, v in sums.items()}
        with self.path.open("w" if begins else "a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if begins:
                writer.writerow(self.columns)
            writer.writerow([_short(k, mean[k]) for k in self.columns])


def _short(key: str, value: float) -> str:
    return str(int(value)) if key == "step" else f"{value:.6g}"


def _accelerator(config: TrainConfig) -> Accelerator:
    wanted = {"cpu": config.device == "cpu", "mixed_precision": config.precision}
    try:
        return Accelerator(**wanted)
    except ValueError:
        # accelerate holds one setting a process; a second run in it may want another
        AcceleratorState._reset_state(PartialState().num_processes == 1)
        return Accelerator(**wanted)


@contextmanager
def _own_forward(model: nn.Module) -> Iterator[None]:
    """The model without accelerate's mixed precision: what is measured is what is saved."""
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.forward = wrapped


def _to(target: Target, device: torch.device) -> Target:
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in target.items()}
