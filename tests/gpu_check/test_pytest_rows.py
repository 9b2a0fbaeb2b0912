"""The plugin that writes each failure at once, with planted tests."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import rows
from benchmarks.gpu.machine import ROOT

TESTS = """
import pytest

@pytest.mark.parametrize("i", range(12))
def test_some(i):
    assert i != 5, "planted"

@pytest.mark.skip(reason="planted")
def test_left_out():
    pass
"""
# simulates a kernel fault, after which every later test of the process would fail
LOST = """
from benchmarks.gpu import pytest_rows

pytest_rows.device_answers = lambda: False
"""


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def run(*options: str, conftest: str = "", tests: str = TESTS) -> dict[str, Any]:
        (tmp_path / "test_planted.py").write_text(tests)
        (tmp_path / "conftest.py").write_text(conftest)
        env = os.environ | {
            "PYTHONPATH": str(ROOT),
            "DETCORE_GPU_CHECK_ROWS": str(tmp_path / "rows"),
        }
        env.pop("PYTEST_XDIST_WORKER", None)  # this test may run in a worker
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-p", "benchmarks.gpu.pytest_rows", *options, str(tmp_path)]
        subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, check=False)
        return rows.read(tmp_path / "rows")

    return run


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_failures_and_counts(run: Any, options: tuple[str, ...]) -> None:
    found = run(*options)
    assert found["facts"] == {"passed": 11, "failed": 1, "skipped": 1}
    (row,) = found["rows"]
    assert row["item"].endswith("test_planted.py::test_some[5]") and not row["ok"]
    assert row["error"].startswith("AssertionError: planted")


def test_a_lost_gpu_costs_one_process(run: Any) -> None:
    found = run("-n", "2", conftest=LOST)
    assert found["facts"]["passed"] == 11
    assert any(row["error"].startswith("AssertionError: planted") for row in found["rows"])


def test_what_can_not_be_collected_is_told(run: Any) -> None:
    found = run(tests="import no_such_module")
    (row,) = found["rows"]
    assert row["item"].endswith("test_planted.py") and "no_such_module" in row["error"]
