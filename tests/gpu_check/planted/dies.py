"""A part whose process dies in its second item, as by a fault in a kernel's launch."""

import os
import signal
from typing import Any

from benchmarks.gpu.rows import Rows


def main(rows: Rows, dry: bool) -> None:
    def die() -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    rows.each([("first", dict), ("second", die), ("third", dict)])
