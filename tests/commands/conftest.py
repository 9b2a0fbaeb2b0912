from collections.abc import Iterator

import pytest

from tests.helpers.threads import single_thread


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    """Run everything here on one thread, also runs shared by a module's tests (`one_thread`)."""
    with single_thread():
        yield
