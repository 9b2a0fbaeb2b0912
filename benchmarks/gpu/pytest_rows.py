"""A pytest plugin that writes each failure at once, and ends the process if the GPU has failed.

Loaded by `tests.py` with -p. DETCORE_GPU_CHECK_ROWS names the file.
"""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.rows import Rows, device_answers

COUNTS = {"passed": 0, "failed": 0, "skipped": 0}
_is_worker = "PYTEST_XDIST_WORKER" in os.environ
_told = 0.0


def _rows() -> Rows:
    return Rows(Path(os.environ["DETCORE_GPU_CHECK_ROWS"]))


def pytest_runtest_logreport(report: Any) -> None:
    """In the process that collects all results: count, and write one line per failure."""
    if _is_worker or (report.when != "call" and report.outcome == "passed"):
        return
    COUNTS[report.outcome] += 1
    if report.failed:
        _rows().add(report.nodeid, ok=False, error=_line_of(report))
    global _told
    if time.monotonic() - _told > 2:
        _told = time.monotonic()
        _rows().fact(**COUNTS)


def pytest_collectreport(report: Any) -> None:
    if not _is_worker and report.failed:
        COUNTS["failed"] += 1
        _rows().add(report.nodeid or "collection", ok=False, error=_line_of(report))


def pytest_sessionfinish() -> None:
    if not _is_worker:
        _rows().fact(**COUNTS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: Any, call: Any) -> Any:
    """After a kernel fault all later tests in this process would fail: let xdist start another."""
    report = yield
    if _is_worker and report.failed and not device_answers():
        report.sections.append(("device", "the GPU answered nothing more"))
        item.config.hook.pytest_runtest_logreport(report=report)
        os._exit(70)
    return report


def _line_of(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    lines = (crash.message if crash else str(report.longrepr)).strip().splitlines()
    return (lines[0] if crash else lines[-1])[:300] if lines else "nothing said"
