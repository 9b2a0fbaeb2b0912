"""Fixtures for the tests of several folders."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from tests.helpers.threads import single_thread

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Real files next to the repository, if a developer has them: folders such as data/bccd.

    Without them the test is skipped.
    """

    def folder(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"no {SHARED / name}")
        return SHARED / name

    return folder


@pytest.fixture
def one_thread() -> Iterable[None]:
    """Use one thread. Small models are as fast with it, and results don't depend on the machine.

    Parallel tests with two threads each wait for each other's threads: a tiny training loop did 10
    steps instead of 250.
    """
    with single_thread():
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Remove tests that need a GPU if there is none, instead of thousands of skips."""
    if torch.cuda.is_available():
        return
    wanted = [item for item in items if not item.get_closest_marker("cuda")]
    if len(wanted) < len(items):
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("cuda")])
    items[:] = wanted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not torch.cuda.is_available():
        terminalreporter.write_line("no GPU here: tests marked cuda are not run")
