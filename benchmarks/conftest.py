"""Prints the interleaved ratios of the run as one table, after pytest-benchmark's own."""

from typing import Any

import pytest
from rich.console import Console

from detcore.engine.bench import table_of


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    rows = [
        dict(b.extra_info)
        for b in (session.benchmarks if session else [])
        if "ratio" in b.extra_info
    ]
    if rows:
        Console().print(table_of(rows))
