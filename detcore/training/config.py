"""The arguments of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch

from detcore.utils.errors import UserError

# What may be another when a run is resumed: none of it changes what the run computes
RESUMABLE = ("workers", "device", "save_steps", "save_minutes", "tensorboard", "max_damaged")


class ConfigError(UserError):
    """Settings that can't be read or don't go together; the text names the setting."""


@dataclass(frozen=True)
class TrainConfig:
    """Arguments of a training run.

    Attributes:
        epochs, steps, minutes: how long to train; the first to run out ends the run. At least one
            must be given.
        batch_size: images per process and forward pass.
        accumulate: forward passes whose gradients are averaged into one step.
        optimizer: "adamw" or "sgd"; momentum and nesterov are for sgd.
        lr: the highest learning rate.
        weight_decay: of convolutions and linear layers; biases and norms are not decayed.
        warmup: share of the run in which the learning rate rises.
        drop_at: ascending shares of the run at which the learning rate falls to a tenth; empty: it
            follows a cosine.
        clip: largest norm of all gradients together; 0: no limit.
        ema: decay of the averaged weights that are evaluated and saved; 0: no average.
        freeze_norms: batch norms keep their statistics and weights.
        freeze_backbone: the backbone keeps its weights; the rest learns.
        seed: of order, augmentation and the model's own sampling.
        eval_every: epochs between evaluations; 0: one at the end.
        patience: evaluations without a better score after which the run ends; 0: never.
        save_minutes, save_steps: between saves of ``last``, whichever comes first; 0: not by it.
        log_every: steps per row of the log.
        tensorboard: also log for TensorBoard.
        precision: "no", "bf16" or "fp16", see `detcore.training.precision.fast_precision`.
        workers: processes that load data.
        device: "auto", "cpu" or "cuda".
        group_aspect, max_damaged: see `detcore.data.loading.loader.Stream`.
        data: kept for the record in the checkpoint.

    With steps or epochs, one number of threads and one machine a run is repeatable; with minutes
    it is not.
    """

    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 16
    accumulate: int = 1
    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 0.02
    momentum: float = 0.9
    nesterov: bool = True
    warmup: float = 0.05
    drop_at: tuple[float, ...] = ()
    clip: float = 10.0
    ema: float = 0.0
    freeze_norms: bool = False
    freeze_backbone: bool = False
    seed: int = 0
    eval_every: float = 0.0
    patience: int = 0
    save_minutes: float = 1.0
    save_steps: int = 0
    log_every: int = 10
    tensorboard: bool = False
    workers: int = 0
    precision: str = "no"
    device: str = "auto"
    group_aspect: bool = False
    max_damaged: float = 0.05
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Mapping[str, Any], data: dict[str, Any]) -> TrainConfig:
        """The arguments among a command's settings, which go by the same names."""
        known = {f.name for f in fields(cls)} - {"data"}
        chosen: dict[str, Any] = {k: v for k, v in settings.items() if k in known}
        chosen["drop_at"] = tuple(chosen.get("drop_at") or ())
        return cls(**chosen, data=data)

    def check(self) -> None:
        """Raise ConfigError unless the arguments go together."""
        for name, value in asdict(self).items():
            for one in value if isinstance(value, tuple) else (value,):
                if isinstance(one, float) and not math.isfinite(one):
                    raise ConfigError(f"{name} must be a finite number, got {one}")
        lengths = {"epochs": self.epochs, "steps": self.steps, "minutes": self.minutes}
        if all(value is None for value in lengths.values()):
            raise ConfigError("give epochs, steps or minutes")
        for name, value in lengths.items():
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0, got {value}")
        if self.batch_size < 1 or self.accumulate < 1:
            raise ConfigError(
                "batch_size and accumulate must be at least 1, "
                f"got {self.batch_size} and {self.accumulate}"
            )
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be at least 0 and below 1, got {self.ema}")
        drops = list(self.drop_at)
        if drops != sorted(drops) or not all(0 < d < 1 for d in drops):
            raise ConfigError(f"drop_at must be ascending shares of the run in 0..1, got {drops}")
        if self.patience and not self.eval_every:
            raise ConfigError("patience counts evaluations; give eval_every too")
        gpu = self.device != "cpu" and torch.cuda.is_available()
        if self.precision == "fp16" and not gpu:
            raise ConfigError("precision fp16 needs a GPU; take bf16, or no for float32")

    def images_per_step(self, processes: int = 1) -> int:
        """Images that one step of the optimizer learns from."""
        return self.batch_size * self.accumulate * processes

    def total_steps(self, length: int, processes: int = 1) -> int | None:
        """Steps that `epochs` and `steps` allow on a data set of `length` items."""
        of_epochs = (
            None
            if self.epochs is None
            else math.ceil(self.epochs * length / self.images_per_step(processes))
        )
        given = [s for s in (of_epochs, self.steps) if s is not None]
        return max(1, min(given)) if given else None

    def record(self) -> dict[str, Any]:
        """The arguments as JSON gives them back: lists for tuples."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
