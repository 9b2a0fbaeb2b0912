"""What documents say, against what their commands print."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def printed_by(script: str) -> str:
    command = [sys.executable, str(ROOT / "scripts" / script)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, check=True, capture_output=True, encoding="utf-8", env=environment
    ).stdout


def test_contributing_holds_the_table_of_cuda_limits() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, after = text.split("<!-- scripts/cuda_limits.py -->\n")
    held, _ = after.split("<!-- end -->\n")
    assert held == printed_by("cuda_limits.py")


def test_stubs_are_the_schemas() -> None:
    held = (ROOT / "detcore/_C.pyi").read_text(encoding="utf-8")
    assert held == printed_by("write_stubs.py"), "run python scripts/write_stubs.py --write"


def test_contributing_holds_the_table_of_ops() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, after = text.split("<!-- scripts/op_table.py -->\n")
    held, _ = after.split("<!-- end of ops -->\n")
    assert held == printed_by("op_table.py"), "run python scripts/op_table.py --write"
