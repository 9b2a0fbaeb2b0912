"""One training loop for all models."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate.utils import gather_object
from torch import nn

from detcore.checkpoints import checkpoint
from detcore.checkpoints.checkpoint import CheckpointError, CheckpointInfo
from detcore.data import AnyDataset
from detcore.data.base import Transform
from detcore.data.loading.loader import Batch, Stream, training_loader
from detcore.evaluation.evaluator import evaluate
from detcore.evaluation.thresholds import begin_training
from detcore.parts.processes import sum_over_processes
from detcore.training import resume_state, run_lock
from detcore.training.config import RESUMABLE, ConfigError, TrainConfig
from detcore.training.lr_schedule import Schedule
from detcore.training.precision import own_forward
from detcore.training.run_files import CHECKPOINTS, RUN_FILES, WEIGHTS
from detcore.training.run_log import Log
from detcore.training.stop_signal import StopSignal
from detcore.training.train_step import Learner, TrainingDiverged
from detcore.utils.atomic_write import sweep
from detcore.utils.json_types import Json


@dataclass
class TrainResult:
    """The outcome of a run.

    Attributes:
        steps: optimizer steps, including those before the run was resumed.
        seconds: time, likewise.
        metrics: figures of the last evaluation; empty if there was none.
        best: the highest score, mAP or accuracy.
        interrupted: whether the user ended the run.
        stopped_early: whether `TrainConfig.patience` ended it.
    """

    steps: int
    seconds: float
    metrics: Json
    best: float | None = None
    interrupted: bool = False
    stopped_early: bool = False


class Watcher(Protocol):
    """Called while a run goes on; pass your own to `train`."""

    def step(self, row: dict[str, float], remaining: float | None, share: float) -> None:
        """Called after each step of the optimizer.

        row: the log's row (step, seconds, lr, loss, ...). remaining: seconds left, None if unknown.
        share: how much of the run is done, 0..1.
        """

    def evaluated(self, step: int, metrics: Json) -> None:
        """Called after each evaluation, with the step and the figures by name."""


def train(
    model: nn.Module,
    dataset: AnyDataset,
    config: TrainConfig,
    *,
    out: Path | None = None,
    val: AnyDataset | None = None,
    augment: Transform | None = None,
    watcher: Watcher | None = None,
    resume: bool = False,
) -> TrainResult:
    """Train a model in place.

    Args:
        model: any of detcore's models.
        dataset: the training data.
        config: how to train.
        out: folder for the ``last`` and ``best`` checkpoints (best by mAP or accuracy on `val`),
            ``log.csv`` (means over `config.log_every` steps of the loss and its parts, learning
            rate and gradient norm) and ``val.csv``. Those of an earlier run are replaced; other
            files stay. None writes nothing.
        val: data to evaluate on, at the end and every `config.eval_every` epochs; with the
            thresholds of `detcore.evaluation.thresholds`, a published model's as any other's.
        augment: applied to each training item.
        watcher: is told of every step and evaluation.
        resume: continue the run in `out` from its last save, or start it if it was never saved. On
            the CPU with one number of threads the outcome is, bit for bit, that of a run that was
            never stopped, unless `config.minutes` ends it.

    Returns:
        `TrainResult`. Ctrl-C or SIGTERM ends the run after the current step; weights and state are
        saved.

    Started by a launcher (``torchrun``, ``accelerate launch``), all processes train one model:
    each takes `config.batch_size` images per step of one common order. Process 0 evaluates and
    writes, the others wait. To resume, all must see `out`.

    Raises:
        TrainingDiverged: the loss or the gradient became NaN or infinite; earlier saves stay.
        CheckpointError: `out` holds another run, its file is damaged, or its weights are there
            without the state to continue from.
        ConfigError: the configuration makes no sense.
        DataError: more pictures are damaged than `TrainConfig.max_damaged`; fewer are left out.
            What was learned before an evaluation is saved.
        ValueError: the targets do not fit the model.
        RunInUse: another training writes into `out`.
        WriteError: a file there can't be written, for example because the disk is full.
        MissingPackage: TensorBoard is asked for and not installed.
    """
    config.check()
    if config.patience and val is None:
        raise ConfigError("patience counts evaluations, and there is no val data")
    return _Run(model, dataset, config, out, val, augment, watcher).run(resume)


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
        self.augment, self.watcher = augment, watcher
        begin_training(model)
        self.learner = Learner(model, config)
        self.main, self.world = self.learner.main, self.learner.world
        self.schedule = Schedule(
            config.total_steps(len(dataset), self.world),
            config.minutes,
            config.warmup,
            config.drop_at,
        )
        self.images_per_step = config.images_per_step(self.world)
        self.progress = resume_state.Progress()
        self.log: Log
        self.stop = StopSignal()
        self.saved, self.saved_step = time.perf_counter(), 0

    def run(self, resume: bool) -> TrainResult:
        try:
            self._begin(resume)
            self.learner.training_mode()
            self.schedule.restart(self.progress.seconds)
            with self.stop:
                interrupted = self._loop(self._batches())
            if not interrupted and self.progress.evaluated_at != self.progress.step:
                self._evaluate()
            self._save_last()
        finally:
            self.learner.release()
            if self.out and self.main:
                run_lock.release(self.out)
        self.log.close()
        self.loader.damage.report()
        at = self.progress
        early = not interrupted and self._patience_is_spent
        return TrainResult(at.step, at.seconds, at.metrics, at.best, interrupted, early)

    def _loop(self, batches: Iterator[Batch]) -> bool:
        """Step until the run is over; whether somebody ended it before."""
        while True:
            share, save, interrupted = self._agreed()
            if share >= 1 or interrupted or self._patience_is_spent:
                return interrupted
            if self._evaluation_is_due:
                self._evaluate()
                self._save_last()
                continue  # evaluating took time, and the schedule may follow the clock
            if save:
                self._save_last()
            self._step(batches, share)

    def _begin(self, resume: bool) -> None:
        """Take up the run in the folder, or make the folder ready for a new one."""
        file = self.out / resume_state.NAME if self.out else None
        self._hold_folder()
        if resume and file and file.is_file():
            self.progress, randoms = resume_state.load(file, self.learner.trainee, self._facts())
            resume_state.set_random_state(randoms[self.learner.rank])
            self.saved_step = self.progress.step
        elif resume and self.out and any((self.out / n).exists() for n in WEIGHTS):
            raise CheckpointError(
                f"{self.out}: there are weights, but no {resume_state.NAME} to go on from; begin a "
                "new run in another folder"
            )
        elif self.out and self.main:
            # an earlier run's would be taken for this one's
            for name in CHECKPOINTS:
                (self.out / name).unlink(missing_ok=True)
        here = torch.tensor(self.progress.step, device=self.learner.device)
        if int(sum_over_processes(here)) != self.world * self.progress.step:
            raise CheckpointError(f"{self.out}: not all processes see the run in this folder")
        self.log = Log(
            self.out if self.main else None,
            self.config.log_every,
            resumed_at=self.progress.step,
            evaluated_at=self.progress.evaluated_at,
            pending=self.progress.pending,
            tensorboard=self.config.tensorboard,
        )

    def _hold_folder(self) -> None:
        """Lock the run's folder by the first process; all raise where another run has it."""
        refused: run_lock.RunInUse | None = None
        if self.out and self.main:
            try:
                run_lock.hold(self.out)
            except run_lock.RunInUse as error:
                refused = error
        if sum_over_processes(torch.tensor(int(refused is not None), device=self.learner.device)):
            raise refused or run_lock.RunInUse(f"{self.out}: a training writes here already")
        if self.out and self.main:
            sweep(self.out, RUN_FILES)

    def _batches(self) -> Iterator[Batch]:
        stream = Stream(
            self.config.batch_size,
            self.config.seed,
            self.config.workers,
            start=self.progress.step * self.images_per_step,
            rank=self.learner.rank,
            world=self.world,
            group_aspect=self.config.group_aspect,
            max_damaged=self.config.max_damaged,
        )
        self.loader = training_loader(self.dataset, stream, self.augment)
        return iter(self.loader)

    def _agreed(self) -> tuple[float, bool, bool]:
        """Share of the run done, whether to save, whether to stop: alike on all processes.

        Clocks and signals are each process's own; the first one's clock counts, and a signal to
        any of them.
        """
        every, minutes = self.config.save_steps, self.config.save_minutes
        step = self.progress.step
        save = bool(step and every and step % every == 0)
        save |= bool(minutes and time.perf_counter() - self.saved > 60 * minutes)
        save &= step != self.saved_step
        share = self.schedule.share(step)
        if self.world > 1:
            mine = [share, float(save)] if self.main else [0.0, 0.0]
            values = torch.tensor([*mine, float(self.stop.asked)], device=self.learner.device)
            share, saves, stops = sum_over_processes(values.double()).tolist()
            return share, saves > 0, stops > 0
        return share, save, self.stop.asked

    def _step(self, batches: Iterator[Batch], share: float) -> None:
        lr = self.config.lr * self.schedule.factor(share)
        try:
            figures = self.learner.learn(batches, lr, self.progress.step + 1)
        except TrainingDiverged as error:
            if self.saved_step:
                kept = f"; last is as it was after step {self.saved_step}"
                raise TrainingDiverged(f"{error}{kept}") from error
            raise
        self._report(lr, figures)

    def _report(self, lr: float, figures: dict[str, float]) -> None:
        at = self.progress
        at.step += 1
        at.seconds = self.schedule.elapsed()
        losses = {k: v for k, v in figures.items() if k != "grad_norm"}
        row = {
            "step": float(at.step),
            "epoch": self._epoch(at.step),
            "seconds": at.seconds,
            "lr": lr,
            "grad_norm": figures["grad_norm"],
            **losses,
        }
        self.log.add(row)
        if self.watcher and self.main:
            try:
                remaining, share = self.schedule.remaining(at.step), self.schedule.share(at.step)
                self.watcher.step(row, remaining, share)
            except KeyboardInterrupt:
                self.stop.asked = True

    def _epoch(self, step: int) -> float:
        return step * self.images_per_step / len(self.dataset)

    @property
    def _evaluation_is_due(self) -> bool:
        every, step = self.config.eval_every, self.progress.step
        if not every or self.val is None or not step or self.progress.evaluated_at == step:
            return False
        return self._epoch(step) // every > self._epoch(step - 1) // every

    @property
    def _patience_is_spent(self) -> bool:
        return bool(self.config.patience and self.progress.stale >= self.config.patience)

    def _evaluate(self) -> None:
        """Measure on the first process; the others wait for its verdict."""
        at = self.progress
        if self.val is None:
            return
        if self.saved_step != at.step:
            self._save_last()  # damaged pictures, or a kill, must not cost what was learned
        at.evaluated_at = at.step
        if self.main:
            with own_forward(self.learner.plain):
                at.metrics = evaluate(
                    self.learner.averaged,
                    self.val,
                    device=self.learner.device,
                    batch_size=self.config.batch_size,
                    max_damaged=self.config.max_damaged,
                ).figures
            self._judge()
        stale = torch.tensor(float(at.stale if self.main else 0), device=self.learner.device)
        at.stale = int(sum_over_processes(stale))
        self.learner.training_mode()

    def _judge(self) -> None:
        at = self.progress
        score = at.metrics.get("mAP" if "mAP" in at.metrics else "accuracy") or 0.0
        at.stale = 0 if at.best is None or score > at.best else at.stale + 1
        if at.best is None or score >= at.best:
            at.best = score
            self._save_weights("best")
        self.log.evaluated(at.step, self._epoch(at.step), at.metrics)
        if self.watcher:
            self.watcher.evaluated(at.step, at.metrics)

    def _save_last(self) -> None:
        if not self.out:
            return
        own = [resume_state.random_state()]
        randoms = gather_object(own) if self.world > 1 else own
        if self.main:
            self.progress.pending = self.log.pending
            file = self.out / resume_state.NAME
            resume_state.save(file, self.learner.trainee, self.progress, randoms, self._facts())
            self._save_weights("last")
        self.saved, self.saved_step = time.perf_counter(), self.progress.step

    def _save_weights(self, name: str) -> None:
        if not self.out:
            return
        at = self.progress
        info = CheckpointInfo(
            model=self.learner.averaged.config,  # type: ignore[arg-type]
            classes=self.dataset.classes,
            task=self.dataset.task,
            data=self.config.data,
            training=self.config.record(),
            step=at.step,
            metrics=at.metrics if at.evaluated_at == at.step else {},
        )
        checkpoint.save(self.out / f"{name}.safetensors", self.learner.averaged, info)

    def _facts(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one that was stopped."""
        chosen = {k: v for k, v in self.config.record().items() if k not in RESUMABLE}
        return {**chosen, "images": len(self.dataset), "processes": self.world}
