"""What documents say, against what their commands print."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_contributing_holds_the_table_of_cuda_limits() -> None:
    command = [sys.executable, str(ROOT / "scripts/cuda_limits.py")]
    printed = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, after = text.split("<!-- scripts/cuda_limits.py -->\n")
    held, _ = after.split("<!-- end -->\n")
    assert held == printed
