"""What the tests of several rooms need."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from tests.helpers.threads import single_thread

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Real files beside the repository, where a developer has them: folders such as data/bccd.

    Without them the test is skipped.
    """

    def folder(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"no {SHARED / name}")
        return SHARED / name

    return folder


@pytest.fixture
def one_thread() -> Iterable[None]:
    """Small models run as fast on one, and results don't depend on the machine.

    Tests that run side by side with two threads each wait for each other's: of a tiny training
    loop they left 10 steps of 250.
    """
    with single_thread():
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need a GPU are not there where there is none, instead of thousands of skips."""
    if torch.cuda.is_available():
        return
    wanted = [item for item in items if not item.get_closest_marker("cuda")]
    if len(wanted) < len(items):
        config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("cuda")])
    items[:] = wanted


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not torch.cuda.is_available():
        terminalreporter.write_line("no GPU here: tests marked cuda are not run")
