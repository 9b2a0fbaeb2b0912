from collections.abc import Iterator

import pytest

from tests.helpers.threads import single_thread


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    """Every run here on one thread, those that a module's tests share too (see `one_thread`)."""
    with single_thread():
        yield
