"""How the learning rate moves, and when training is over."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Schedule:
    """Linear warm-up, then a cosine or steps down, over a number of steps or a stretch of time.

    steps: optimizer steps in all, or None. minutes: wall-clock time, or None; whichever runs out
    first ends the training. warmup: share of the whole that the warm-up takes. drop_at: shares of
    the whole at each of which the rate falls to a tenth; without any a cosine leads to nothing.

    With a time limit the schedule follows the clock and not the count of steps: it ends when the
    time does, however fast the machine turns out to be. Such a run is not repeatable to the bit.
    """

    steps: int | None = None
    minutes: float | None = None
    warmup: float = 0.05
    drop_at: Sequence[float] = ()
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise ValueError("Schedule: give steps or minutes")

    def restart(self, seconds: float = 0.0) -> None:
        """Begin to count the time now, with so much of it spent already."""
        self.started = time.perf_counter() - seconds

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def share(self, step: int) -> float:
        """How much of the training lies behind when `step` steps are done, 0..1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_time = self.elapsed() / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_time))

    def factor(self, share: float) -> float:
        """What the base learning rate is multiplied by."""
        if share < self.warmup:
            # never 0: the first step would be lost
            return max(share / self.warmup, 0.01)
        if self.drop_at:
            return float(0.1 ** sum(share >= drop for drop in self.drop_at))
        through = (share - self.warmup) / max(1 - self.warmup, 1e-9)
        return 0.5 * (1 + math.cos(math.pi * min(through, 1.0)))

    def remaining(self, step: int) -> float | None:
        """Seconds left at the present speed, or None before it is known."""
        share = self.share(step)
        return self.elapsed() * (1 - share) / share if step and share > 0 else None
