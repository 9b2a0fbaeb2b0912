import pytest


@pytest.fixture(autouse=True)
def alone(one_thread):
    """Run every test of this folder on one thread."""
