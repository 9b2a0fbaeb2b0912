"""A part must not affect the others: tests with planted failures, hangs and crashes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import process, runner
from benchmarks.gpu.parts import PARTS, Part

PLANTED = "tests.gpu_check.planted"


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runner.Check:
    monkeypatch.setattr(runner, "LEAST", 0.5)
    for folder in ("out", "scratch"):
        (tmp_path / folder).mkdir()
    made = command._check(tmp_path / "out", tmp_path / "scratch", True, time.monotonic())
    made.factor = 1.0
    return made


def planted(name: str, seconds: float = 20.0, silence: float = 20.0) -> Part:
    return Part(name, f"{PLANTED}.{name}", seconds, silence, "planted")


def items(part: dict[str, Any]) -> dict[str, bool]:
    return {row["item"]: row["ok"] for row in part["rows"]}


def is_gone(pid: int) -> bool:
    """Whether the process ends within seconds, because a signal takes a moment."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":  # a zombie: ended, but not waited for
            return True
        time.sleep(0.05)
    return False


def test_a_failure_and_a_hang_leave_the_others_whole(check: runner.Check) -> None:
    smoke = replace(PARTS[0], seconds=100.0, silence=100.0)
    for part in (planted("fails"), planted("hangs", seconds=4.0), smoke):
        runner.run_part(check, part)
    report = json.loads((check.out / "gpu.json").read_text())["parts"]

    assert report["fails"]["status"] == "failed"
    assert items(report["fails"]) == {"first": True, "second": False, "third": True}
    assert report["fails"]["rows"][1]["error"] == "ValueError: planted"
    assert report["hangs"]["status"] == "stopped"
    assert report["hangs"]["why"] == "stopped at its limit of 4 s"
    assert report["hangs"]["seconds"] < 10
    assert items(report["hangs"]) == {"first": True, "second": False}
    assert is_gone(report["hangs"]["facts"]["child"])
    assert report["smoke"]["status"] == "passed"
    assert len(report["smoke"]["rows"]) > 60
    lines = (check.out / "failures.txt").read_text().splitlines()
    assert lines == [
        "fails: second: ValueError: planted",
        "hangs: second: the process stopped at its limit of 4 s",
    ]


def test_a_part_that_dies_goes_on_behind_the_item_that_it_died_of(check: runner.Check) -> None:
    part = runner.run_part(check, planted("dies"))
    assert items(part) == {"first": True, "second": False, "third": True}
    assert part["rows"][1]["error"] == "the process died of SIGSEGV"
    assert (part["restarts"], part["status"]) == (1, "failed")


def test_a_part_that_hangs_goes_on_behind_the_item_that_it_hung_in(check: runner.Check) -> None:
    part = runner.run_part(check, planted("hangs", silence=1.5))
    assert items(part) == {"first": True, "second": False, "third": True}
    assert "nothing new for" in part["rows"][1]["error"]


def test_what_a_part_lacks_is_said(check: runner.Check) -> None:
    part = runner.run_part(check, planted("cannot_start"))
    assert part["status"] == "failed" and part["restarts"] == 0
    assert part["notes"] == ["RuntimeError: no such tool here"]
    assert "RuntimeError: no such tool here" in check.log.read_text()


def test_without_time_a_part_is_not_run(check: runner.Check) -> None:
    check.deadline = time.monotonic() + 1
    assert runner.run_part(check, planted("fails"))["status"] == "not run"


def test_an_interruption_keeps_what_was_found(check: runner.Check) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 3.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.run_part(check, planted("hangs"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    part = json.loads((check.out / "gpu.json").read_text())["parts"]["hangs"]
    assert part["status"] == "stopped" and items(part) == {"first": True, "second": False}
    assert is_gone(part["facts"]["child"])


def test_what_a_command_left_behind_is_ended(tmp_path: Path) -> None:
    leaves = "import subprocess as s; print(s.Popen(['sleep', '600']).pid)"
    ended = process.run([sys.executable, "-c", leaves], tmp_path / "log", 20)
    assert ended.code == 0
    assert is_gone(int((tmp_path / "log").read_text()))


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    ended = process.run(["no-such-command"], tmp_path / "log", 5)
    assert ended.code == 127
    assert ended.reason == "no-such-command could not be started: No such file or directory"


def called(*arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
    script = Path(__file__).parents[2] / "scripts/gpu_check.sh"
    given = os.environ | {"PYTHON": sys.executable, "DETCORE_GPU_CHECK_DRY": "1"} | env
    return subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, env=given, check=False
    )


def test_an_unknown_part_is_named_in_a_sentence(tmp_path: Path) -> None:
    done = called("smoke", "nonsense", OUT=str(tmp_path))
    assert done.returncode == 2 and done.stdout == ""
    known = "smoke, figures, tests, memory, models, profile"
    assert done.stderr == f"gpu_check: PART must be one of {known}, got nonsense\n"


def test_a_python_without_torch_is_told_of(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no torch' >&2\nexit 1\n")
    bare.chmod(0o755)
    done = called(PYTHON=str(bare), OUT=str(tmp_path))
    assert done.returncode == 1
    assert "no Python 3.11 or newer that can import torch" in done.stderr
    assert f"{bare}: ModuleNotFoundError: no torch" in done.stderr


def test_one_part_by_name(tmp_path: Path, keys: Callable[[dict[str, Any]], None]) -> None:
    done = called("smoke", "--no-build", OUT=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu.json").read_text())
    keys(report)
    assert list(report["parts"]) == ["smoke"]
    assert report["build"]["status"] == "left out"
    table = done.stdout.split("\n\n")[-1].splitlines()
    assert 4 <= len(table) <= 60 and table[0].startswith("DRY RUN")
    assert len(list(tmp_path.iterdir())) <= 8


@pytest.fixture
def keys() -> Callable[[dict[str, Any]], None]:
    """The keys that gpu.json always has, with and without a GPU."""

    def check(report: dict[str, Any]) -> None:
        top = {"dry", "out", "time", "seconds", "machine", "build", "parts"}
        assert report.keys() == top
        assert report["build"].keys() == {"status", "why", "seconds", "target"}
        machine = {"gpu", "capability", "torch", "torch_cuda", "python", "processor", "cores"}
        assert machine | {"nvcc", "commit", "packages", "nvidia_smi"} <= report["machine"].keys()
        for part in report["parts"].values():
            assert part.keys() == {
                "status", "why", "seconds", "limit_s", "restarts", "facts", "rows", "notes",
            }  # fmt: skip
            assert all({"item", "ok"} <= row.keys() for row in part["rows"])

    return check
