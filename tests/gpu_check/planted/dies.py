"""A part whose process dies in its second item, like after a fault of a kernel."""

import os
import signal
from typing import Any

from benchmarks.gpu.rows import Rows


def main(rows: Rows, dry: bool) -> None:
    def die() -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    rows.each([("first", dict), ("second", die), ("third", dict)])
