"""What the tests of several rooms need."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

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
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
