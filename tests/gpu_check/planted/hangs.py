"""A part that hangs in its second item, with a child process that ignores SIGTERM."""

import subprocess
import sys
import time
from typing import Any

from benchmarks.gpu.rows import Rows

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def main(rows: Rows, dry: bool) -> None:
    def forever() -> dict[str, Any]:
        child = subprocess.Popen([sys.executable, "-c", DEAF])
        rows.fact(child=child.pid)
        time.sleep(600)
        return {}

    rows.each([("first", dict), ("second", forever), ("third", dict)])
