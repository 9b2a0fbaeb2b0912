"""Runs the tests of the ops on the GPU with pytest, in four processes if pytest-xdist exists."""

import os
import subprocess
import sys
from importlib.util import find_spec

from benchmarks.gpu.machine import ROOT
from benchmarks.gpu.rows import Rows, read

# the dry run has other tests, because these need a GPU
MARKS, DRY_MARKS = "cuda and not slow", "not cuda and not simt and not slow"


def command(dry: bool) -> list[str]:
    given = [sys.executable, "-m", "pytest", "tests/ops", "-m", DRY_MARKS if dry else MARKS]
    # the project's pytest options need plugins that a machine may lack
    given += ["-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=short", "-p"]
    given += ["benchmarks.gpu.pytest_rows"]
    return given + (["-n", str(_processes())] if _processes() > 1 else [])


def _processes() -> int:
    return min(4, len(os.sched_getaffinity(0))) if find_spec("xdist") else 1


def main(rows: Rows, dry: bool) -> None:
    if find_spec("pytest") is None:
        raise RuntimeError(f"{sys.executable} has no pytest")
    if not find_spec("xdist"):
        rows.note("no pytest-xdist here: the tests run one after the other")
    # the processes share the cores; if each used all of them, the references would be very slow
    threads = max(1, len(os.sched_getaffinity(0)) // _processes())
    env = os.environ | {"DETCORE_GPU_CHECK_ROWS": str(rows.path.resolve())}
    env |= {"OMP_NUM_THREADS": str(threads)}
    code = subprocess.run(command(dry), cwd=ROOT, env=env, check=False).returncode
    counts = read(rows.path)["facts"]
    passed, failed = counts.get("passed", 0), counts.get("failed", 0)
    right = code == 0 and passed > 0
    error = {} if right else {"error": f"{failed} failed, {passed} passed, exit code {code}"}
    rows.add("pytest tests/ops", ok=right, **counts, **error)
