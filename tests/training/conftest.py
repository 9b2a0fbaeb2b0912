"""Runs of a tiny detector."""

import pytest
import torch

from detcore.data import Digits, DigitScenes
from tests.helpers.tiny import Tiny


@pytest.fixture(autouse=True)
def alone(one_thread):
    """Run every test of this folder on one thread."""


@pytest.fixture
def tiny_class():
    return Tiny


@pytest.fixture
def fresh():
    """Make a tiny detector, always with the same weights."""

    def make():
        torch.manual_seed(0)
        return Tiny()

    return make


@pytest.fixture
def scenes():
    def make(split="train", length=24):
        return Digits(split, length=length, scenes=DigitScenes(size=32, digits=(1, 1)))

    return make
