"""A short part of the fuzzers; `python -m tests.fuzz` runs them for longer."""

import subprocess
import sys

import pytest

from tests.fuzz import families
from tests.fuzz.families import GROUPS, make, run_case
from tests.ops.conftest import SIMT, Backend, backend

assert backend  # a fixture

PARTS = [
    *((name, 100) for name in GROUPS["readers"]),
    ("checkpoints", 25),
    ("darknet_files", 100),
    ("command_line", 60),
]


@pytest.mark.parametrize("op", GROUPS["ops"])
def test_ops(tmp_path, backend: Backend, op: str) -> None:
    family = make(op, tmp_path, backend)
    for number in range(3 if backend.simulated else 8):
        run_case(op, family, 0, number)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("name", "cases"), PARTS)
def test_what_people_have(tmp_path, name, cases):
    family = make(name, tmp_path, Backend("cpu"))
    for number in range(cases):
        run_case(name, family, 0, number)


def test_every_family_has_a_short_part():
    assert {*GROUPS["ops"], *(name for name, _ in PARTS)} == set(families.NAMES)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "nonsense"), "no family 'nonsense'; there are ops, readers"),
        (("--case", "3"), "--case needs --only FAMILY"),
        (("--backend", "gpu"), "--backend must be cpu-<isa>, simt or cuda, got 'gpu'"),
    ],
)
def test_what_the_command_refuses(arguments, words, monkeypatch, capsys):
    from tests.fuzz.__main__ import main

    monkeypatch.setattr(sys, "argv", ["fuzz", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert words in capsys.readouterr().err


@pytest.mark.slow  # imports everything twice for each
@pytest.mark.parametrize(
    "on",
    [
        (),
        pytest.param(
            ("--backend", "simt"),
            marks=[
                pytest.mark.simt,
                pytest.mark.skipif(SIMT is None, reason="the simulator is not built: make test"),
            ],
        ),
    ],
    ids=["cpu", "simt"],
)
def test_the_command_counts_and_can_be_repeated(on):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--seed", "7", "--only", "nms", *on, *arguments],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    said = call("--cases", "40")
    assert "      40 nms" in said and "no fault in 40 cases" in said
    call("--case", "39")
