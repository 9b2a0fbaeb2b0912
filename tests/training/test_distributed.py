"""Several processes that train one model, on the CPU with gloo."""

import csv
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from safetensors.torch import load_file

from detcore.training import run_lock
from tests.helpers import runs
from tests.training.test_resume_state import assert_same

MODELS = ("faster_rcnn", "ssd", "yolo")


def free_port():
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return asked.getsockname()[1]


def launch(target, *arguments, world):
    """Run `target(..., rank, world, port, ...)` in `world` processes and wait for them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.runs"])
    port = free_port()
    folder, *others = arguments
    started = [
        context.Process(target=target, args=(folder, rank, world, port, *others))
        for rank in range(world)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        process.kill()
    assert [p.exitcode for p in started] == [0] * world


@pytest.fixture(scope="module")
def alone_and_together(tmp_path_factory):
    alone, together = (tmp_path_factory.mktemp(n) for n in ("alone", "together"))
    launch(runs.gradients, alone, 4, MODELS, world=1)
    launch(runs.gradients, together, 2, MODELS, world=2)
    return alone, together


def gradient(folder, name, rank):
    before, after = (
        load_file(folder / f"{name}.{rank}.{when}.safetensors") for when in ("before", "after")
    )
    return {k: before[k] - after[k] for k in before}


def losses(folder):
    with (folder / "log.csv").open() as stream:
        return [{k: float(v) for k, v in r.items()} for r in csv.DictReader(stream)]


@pytest.mark.parametrize("name", MODELS)
def test_two_processes_have_the_gradient_of_one_with_twice_the_batch(alone_and_together, name):
    alone, together = alone_and_together
    wanted = gradient(alone, name, 0)
    got = gradient(together, name, 0)
    other = gradient(together, name, 1)
    for key in wanted:
        if wanted[key].is_floating_point():
            assert (got[key] - wanted[key]).abs().max() <= 1e-5, key
        assert (got[key] == other[key]).all()
    (row,), (their_row,) = losses(together / name), losses(alone / name)
    for key in set(row) - {"seconds"}:
        assert row[key] == pytest.approx(their_row[key], rel=1e-4), key


def test_all_stop_at_one_step_and_go_on_from_it(tmp_path):
    launch(runs.stopped_and_resumed, tmp_path, world=2)
    assert_same(tmp_path / "parts", tmp_path / "whole", steps=8)
    names = {"best.json", "best.safetensors", "last.json", "last.safetensors"}
    names |= {"last.state.safetensors", "log.csv", "val.csv"}
    assert {p.name for p in (tmp_path / "parts").iterdir()} == names


def test_the_command_speaks_and_writes_once(tmp_path):
    launch(runs.command, tmp_path, world=2)
    said = [(tmp_path / f"said.{number}.0").read_text() for number in (0, 1)]
    assert "images per step" in said[0]
    for text in said:
        assert "done: 3 steps" in text
    assert [(tmp_path / f"said.{number}.1").read_text() for number in (0, 1)] == ["", ""]
    rows = losses(tmp_path / "run")
    assert [r["step"] for r in rows] == [1, 2, 3]
    assert rows[0]["epoch"] == pytest.approx(4 / 10000)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_launchers_start_one_run(tmp_path, launcher):
    programs = Path(sys.executable).parent
    port = str(free_port())
    start = {
        "torchrun": [programs / "torchrun", "--nproc-per-node", "2", "--master-port", port],
        # accelerate's flag for one process per device; without a GPU all use the CPU
        "accelerate": [
            *(programs / "accelerate", "launch", "--multi_gpu", "--num_processes", "2"),
            *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
            *("--main_process_port", port),
        ],
    }[launcher]
    command = [
        *(programs / "detcore", "train", "--model", "yolo", "--backbone", "test_resnet"),
        *("--image-size", "64", "--batch-size", "2", "--steps", "3", "--out", tmp_path / "run"),
    ]
    ended = subprocess.run(
        [str(word) for word in (*start, *command)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("done: 3 steps") == 1
    assert losses(tmp_path / "run")[-1]["epoch"] == pytest.approx(3 * 4 / 10000)


def test_a_run_that_not_all_see_is_not_resumed(tmp_path):
    launch(runs.resumed_apart, tmp_path, world=2)
    for rank in (0, 1):
        assert "not all processes see the run" in (tmp_path / f"refused.{rank}").read_text()


def test_where_another_run_writes_all_processes_end(tmp_path):
    with FileLock(str(tmp_path / run_lock.NAME)):
        launch(runs.locked_out, tmp_path, world=2)
    for rank in (0, 1):
        assert "a training writes here already" in (tmp_path / f"refused.{rank}").read_text()
    assert not (tmp_path / "log.csv").exists()
    launch(runs.locked_out, tmp_path, world=2)
    assert (tmp_path / "log.csv").exists()
