from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    """Every run here on one thread, those that a module's tests share too (see `one_thread`)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
