"""Notices work that gets much slower than it began, as on a machine that others began to use."""

from __future__ import annotations

import logging
from collections import deque
from statistics import median

log = logging.getLogger(__name__)

_FIRST = 5.0  # seconds of work that tell how fast it can be
_RECENT = 10.0  # seconds of work that tell how fast it is now, and
_LEAST = 3  # so many batches at least
_SHARE = 1 / 3  # of the first speed; below, it is told


class SpeedWatch:
    """Warns in the log, once, when images per second fall below a third of the first seconds'.

    The first batch is not counted: it allocates, and compiles where something is compiled.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.images, self.seconds = 0, 0.0  # of the first seconds
        self.recent: deque[tuple[int, float]] = deque()
        self.told = False

    def add(self, images: int, seconds: float) -> None:
        """A batch of so many images took so long."""
        self.batches += 1
        if self.batches == 1 or self.told:
            return
        if self.seconds < _FIRST:
            self.images, self.seconds = self.images + images, self.seconds + seconds
            return
        self.recent.append((images, seconds))
        while self._taken() - self.recent[0][1] >= _RECENT and len(self.recent) > _LEAST:
            self.recent.popleft()
        if self._taken() < _RECENT or len(self.recent) < _LEAST:
            return
        first = self.images / self.seconds
        now = median(n / max(s, 1e-9) for n, s in self.recent)  # one that waited is no matter
        if now < _SHARE * first:
            self.told = True
            log.warning(
                "images per second fell from %.1f to %.1f: if other programs use this machine's "
                "processors, --threads auto takes only idle ones",
                first,
                now,
            )

    def _taken(self) -> float:
        return sum(seconds for _, seconds in self.recent)
