"""Prints the ratios of the run as one table after pytest-benchmark's own; --results saves them."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from detcore.bench import cases, print_rows, to_json


def pytest_addoption(parser: Any) -> None:
    parser.addoption(
        "--results", type=Path, help="folder to write the table to, as cpu.json and ratios.png"
    )


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    session = getattr(config, "_benchmarksession", None)
    found = session.benchmarks if session else []
    rows = [dict(b.extra_info) for b in found if "times" in b.extra_info]
    if not rows:
        return
    order = [case.work for case in cases()]  # pytest orders by file name
    rows.sort(key=lambda row: order.index(row["work"]))
    console = Console(width=max(200, Console().width))
    print_rows(console, rows)
    folder = config.getoption("--results")
    if folder:
        from benchmarks.charts import draw_ratios

        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.json").write_text(to_json(rows) + "\n")
        draw_ratios(folder / "cpu.json", folder / "ratios.png")
        console.print(f"figures in {folder / 'cpu.json'}, drawn in {folder / 'ratios.png'}")
