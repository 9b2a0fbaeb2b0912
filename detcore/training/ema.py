"""An exponential moving average of a model's weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


class Ema:
    """Keeps ``average = decay * average + (1 - decay) * weights`` after every step.

    Floating-point buffers (a batch norm's statistics) are averaged too, integer ones copied. The
    decay begins small, ``min(decay, (1 + n) / (10 + n))`` after n steps, so that a short run's
    average isn't mostly its random start.

    Attributes:
        model: the averaged copy, in evaluation mode, without gradients.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"Ema: decay must be between 0 and 1, got {decay}")
        self.model = deepcopy(model).eval().requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights of `model`, of the same architecture."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                average.lerp_(current[name], 1 - decay)
            else:
                average.copy_(current[name])
