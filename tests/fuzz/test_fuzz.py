"""A short part of the fuzzers; `python -m tests.fuzz` runs them for longer."""

import random

import pytest

from tests.fuzz.readers import FORMS, ReaderFuzz
from tests.fuzz.weights import CheckpointFuzz, DarknetFuzz

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("form", FORMS)
def test_readers(tmp_path, form):
    fuzz = ReaderFuzz(form, tmp_path)
    for number in range(100):
        fuzz.case(random.Random(f"0.{form}.{number}"))


@pytest.mark.parametrize(("kind", "cases"), [(CheckpointFuzz, 25), (DarknetFuzz, 100)])
def test_weights(tmp_path, kind, cases):
    fuzz = kind(tmp_path)
    for number in range(cases):
        fuzz.case(random.Random(f"0.{kind.__name__}.{number}"))
