"""One step of the optimizer, by all the processes that train one model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from detcore.data.base import Target
from detcore.data.loading.loader import Batch
from detcore.inference.predictor import as_float
from detcore.parts.freeze import hold_backbone, hold_norms
from detcore.parts.processes import sum_over_processes
from detcore.training import resume_state
from detcore.training.config import ConfigError, TrainConfig
from detcore.training.distributed import accelerator, to_device
from detcore.training.ema import Ema
from detcore.training.optimizer import make_optimizer


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; the text names the step and the images."""


class Learner:
    """A model with what changes it: optimizer, average, gradient scaler.

    Args:
        model: any of detcore's, changed in place. config: how it learns.

    Attributes:
        plain: the model itself, laid out channels-last. averaged: the weights to measure and to
            keep: the average if there is one, else the model. trainee: what a saved state holds.
        device: it is there. rank, world: this process and how many there are; main: it is the
            first.

    Until `release` the model's forward works in `TrainConfig.precision`.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.config = config
        self.accelerator = accelerator(config)
        self.device: torch.device = self.accelerator.device
        self.main = bool(self.accelerator.is_main_process)
        self.rank: int = self.accelerator.process_index
        self.world: int = self.accelerator.num_processes
        # dropout should not drop the same on all processes
        torch.manual_seed(config.seed + self.rank)
        # convolutions run about a sixth faster so on the CPU, and tensor cores want it too
        self.plain = model = model.to(memory_format=torch.channels_last)
        learnt = [p for p in model.parameters() if p.requires_grad]
        self._hold()
        self._held = [p for p in learnt if not p.requires_grad]
        optimizer = make_optimizer(
            model,
            config.optimizer,
            config.lr,
            config.weight_decay,
            config.momentum,
            config.nesterov,
        )
        self.ema = Ema(model, config.ema) if config.ema else None
        self.averaged: nn.Module = self.ema.model if self.ema else model
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.trainee = resume_state.Trainee(model, optimizer, self.ema, self.accelerator.scaler)

    def training_mode(self) -> None:
        """Put the model into training mode, apart from what is frozen."""
        self.model.train()
        self._hold()

    def release(self) -> None:
        """Give the caller's model its own forward back, and let all weights learn that did."""
        self.plain.__dict__.pop("forward", None)
        for parameter in self._held:
            parameter.requires_grad_(True)

    def _losses(self, images: list[Tensor], targets: list[Target]) -> dict[str, Tensor]:
        try:
            losses: dict[str, Tensor] = self.model(images, targets)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"a batch norm has one value to average: a batch of {len(images)} picture of this "
                f"size is too small; a --batch-size of 2 or more, a larger --image-size or "
                f"--freeze-norms works"
            ) from error
        return losses

    def learn(self, batches: Iterator[Batch], lr: float, step: int) -> dict[str, float]:
        """Take `TrainConfig.accumulate` batches and one step of the optimizer.

        lr: learning rate. step: its number, for the text of an error.

        Returns:
            "loss", its parts by name, means over all processes, and "grad_norm" before clipping.

        Raises:
            TrainingDiverged: a loss or gradient is no number; the weights are as they were.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        losses: dict[str, Tensor] = {}
        image_ids: list[Any] = []
        for k in range(self.config.accumulate):
            images, targets = next(batches)
            image_ids += [t.get("image_id") for t in targets]
            with self._exchange(last=k == self.config.accumulate - 1):
                there = [to_device(t, self.device) for t in targets]
                parts = self._losses(as_float(images, self.device), there)
                self.accelerator.backward(torch.stack(list(parts.values())).sum())
            for name, value in parts.items():
                losses[name] = losses.get(name, 0) + value.detach() / self.config.accumulate
        norm = self.accelerator.clip_grad_norm_(
            self.model.parameters(), self.config.clip or math.inf
        )
        figures = {**self._means(losses), "grad_norm": float(norm)}
        self._check(figures, lr, step, image_ids)
        self.optimizer.step()
        if self.ema and not self.accelerator.optimizer_step_was_skipped:
            self.ema.update(self.plain)
        return figures

    def _hold(self) -> None:
        if self.config.freeze_norms:
            hold_norms(self.plain)
        if self.config.freeze_backbone:
            hold_backbone(self.plain)

    def _exchange(self, *, last: bool) -> AbstractContextManager[Any]:
        """Gradients go from process to process with the last forward pass of a step alone."""
        return nullcontext() if last else self.accelerator.no_sync(self.model)

    def _means(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """The losses over all processes, and their sum as "loss"."""
        values = torch.stack([v.float() for v in losses.values()])
        means = (sum_over_processes(values) / self.world).tolist()
        return {"loss": sum(means), **dict(zip(losses, means, strict=True))}

    def _check(self, figures: dict[str, float], lr: float, step: int, image_ids: list[Any]) -> None:
        scaled = self.accelerator.scaler is not None  # which skips a step that overflows
        if math.isfinite(figures["loss"]) and (scaled or math.isfinite(figures["grad_norm"])):
            return
        what = "gradient" if math.isfinite(figures["loss"]) else "loss"
        value = figures["grad_norm" if what == "gradient" else "loss"]
        if self.world > 1:
            image_ids = gather_object(image_ids)  # all come here: the figures are those of all
        losses = {k: v for k, v in figures.items() if k not in ("loss", "grad_norm")}
        parts = ", ".join(f"{k} {v:.4g}" for k, v in losses.items())
        raise TrainingDiverged(
            f"the {what} became {value} at step {step} ({parts}), learning rate {lr:.3g}, "
            f"image ids {image_ids}; try a lower --lr or --clip, or a longer --warmup"
        )
