import pytest


@pytest.fixture(autouse=True)
def alone(one_thread):
    """Every test here on one thread."""
