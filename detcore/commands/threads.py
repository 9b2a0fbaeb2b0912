"""How many threads torch computes with: beside busy processes fewer are faster."""

from __future__ import annotations

import os
import time
from pathlib import Path

from detcore.utils.errors import UsageError
from detcore.utils.printing import say

_STAT = Path("/proc/stat")
_SECONDS = 0.2  # that the processors are watched


def set_threads(wanted: str | None) -> None:
    """Take a number of threads, or with "auto" as many as processors are idle, and say so.

    Torch's threads wait for each other at every step: one that another program keeps off its
    processor holds up all. Raises UsageError for anything else; None leaves torch's own number.
    """
    if wanted is None:
        return
    import torch

    cores = len(os.sched_getaffinity(0))
    if wanted == "auto":
        count = max(1, min(cores, round(idle_processors())))
        said = "thread" if count == 1 else "threads"
        say(f"using {count} {said}: as many of {cores} processors are idle")
    elif wanted.isdecimal() and 1 <= int(wanted) <= 1024:
        count = int(wanted)
    else:
        raise UsageError(f"--threads must be auto or a number in 1..1024, got {wanted!r}")
    torch.set_num_threads(count)


def idle_processors() -> float:
    """How many of this process's processors nobody uses; all, where the system doesn't tell."""
    cores = len(os.sched_getaffinity(0))
    try:
        before = _times()
        time.sleep(_SECONDS)
        after = _times()
    except (OSError, ValueError, IndexError):
        return float(cores)
    total = sum(after) - sum(before)
    idle = sum(after[3:5]) - sum(before[3:5])  # idle, and waiting for a disk
    return cores * idle / total if total else float(cores)


def _times() -> list[int]:
    """Of all processors together: user, nice, system, idle, iowait, ..., in ticks."""
    return [int(word) for word in _STAT.read_text().splitlines()[0].split()[1:9]]
