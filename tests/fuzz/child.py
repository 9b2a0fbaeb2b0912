"""The process that runs the cases, supervised by `__main__`."""

import logging
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from detcore import ops
from tests.fuzz.families import make, run_case, use_backend

MEMORY = 8 << 30  # bytes for the cases, in addition to the imports
AT_ONCE = 20  # consecutive cases of a family


def run_all(names: list[str], given: dict[str, Any], counts: Any, running: Any) -> None:
    """Run cases of all families in turn, and end with 1 at the first fault.

    Args:
        names: the families. given: seed, minutes, cases and backend of the command. counts:
        finished cases by family. running: index of the current family or -1, and start time.
    """
    logging.getLogger("detcore").setLevel(logging.CRITICAL)  # hides thousands of warnings
    torch.set_num_threads(1)
    backend = use_backend(given["backend"])
    if backend.simulated:
        # at its first kernel it reserves more addresses than the limit, and uses few of them
        ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    end = time.monotonic() + 60 * given["minutes"]
    with tempfile.TemporaryDirectory() as place:
        families = [make(name, Path(place), backend) for name in names]
        open_ones = list(range(len(names)))
        while open_ones and time.monotonic() < end:
            for k in open_ones:
                for _ in range(AT_ONCE):
                    running[0], running[1] = k, time.monotonic()
                    try:
                        run_case(names[k], families[k], given["seed"], counts[k])
                    except Exception:
                        traceback.print_exc()
                        sys.exit(1)
                    counts[k] += 1
                running[0] = -1.0
            open_ones = [k for k in open_ones if counts[k] < (given["cases"] or sys.maxsize)]
