"""A killed run resumes, and ends with the same result as an uninterrupted one."""

import csv
import multiprocessing
import os
import pickle
import random
import signal
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from detcore.checkpoints.checkpoint import CheckpointError, read
from detcore.training import resume_state
from detcore.training.config import TrainConfig
from detcore.training.run_files import RUN_FILES
from detcore.training.trainer import train
from detcore.utils.atomic_write import sweep
from tests.helpers import runs


@pytest.fixture(scope="module")
def processes():
    """Make processes that have already imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.helpers.runs"])
    return context


@pytest.fixture(scope="module")
def started(processes):
    def start(folder, **options):
        process = processes.Process(target=runs.run, args=(folder,), kwargs=options)
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def unbroken(started, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    process = started(folder)
    process.join()
    assert process.exitcode == 0
    return folder


def rows(path):
    with path.open() as stream:
        return [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(stream)]


def outcome(folder):
    """All results of a run except times: logs, weights, state."""
    logs = {name: rows(folder / name) for name in ("log.csv", "val.csv")}
    tensors = {
        f"{name}.{k}": v
        for name in ("best", "last", "last.state")
        for k, v in load_file(folder / f"{name}.safetensors").items()
    }
    return logs, tensors


def assert_same(folder, wanted, steps=runs.STEPS):
    (logs, tensors), (their_logs, their_tensors) = outcome(folder), outcome(wanted)
    assert logs == their_logs
    assert logs["log.csv"][-1]["step"] == str(steps)
    assert len(logs["val.csv"]) > 2
    assert tensors.keys() == their_tensors.keys()
    assert [k for k in tensors if not torch.equal(tensors[k], their_tensors[k])] == []
    for name in ("best", "last"):
        assert (
            read(folder / f"{name}.safetensors")[0].step
            == read(wanted / f"{name}.safetensors")[0].step
        )


@pytest.mark.parametrize(
    ("seconds", "least"), [(0.15, 3), pytest.param(0.02, 20, marks=pytest.mark.slow)]
)
def test_killed_at_random_moments(started, unbroken, tmp_path, seconds, least):
    draw, kills, process = random.Random(0), 0, None
    while process is None or process.exitcode != 0:
        process = started(tmp_path, resume=process is not None)
        wait_for_a_step(process, tmp_path / resume_state.NAME)
        process.join(draw.uniform(0.0, seconds))
        if process.exitcode is None:
            process.kill()
            process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode != 0
    assert kills >= least
    assert_same(tmp_path, unbroken)


def wait_for_a_step(process, file):
    """Wait until the file is rewritten, or the process ends, so that each kill adds a step."""

    def written():
        return file.stat().st_mtime_ns if file.exists() else 0

    before = written()
    while written() == before and process.exitcode is None:
        time.sleep(0.001)


def test_killed_while_it_writes(started, unbroken, tmp_path):
    # 1: there are no files yet; 2: a state without weights; 3 and 8: between weights and JSON; 17
    # and 18: in the middle of the run, also during the save of an evaluation
    for number, sync in enumerate((1, 2, 3, 8, 17, 18)):
        process = started(tmp_path, resume=number > 0, dies_at_sync=sync)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert any(p.name.startswith(".") for p in tmp_path.iterdir())
    process = started(tmp_path, resume=True)
    process.join()
    assert process.exitcode == 0
    assert_same(tmp_path, unbroken)
    assert not any(p.name.startswith(".") for p in tmp_path.iterdir())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_signal_ends_after_a_whole_step(tmp_path, optimizer):
    class Asks:
        def step(self, row, remaining, share):
            if row["step"] in (5, 6, 11):
                os.kill(os.getpid(), signal.SIGTERM)

        def evaluated(self, step, metrics):
            pass

    config = TrainConfig(steps=14, batch_size=4, optimizer=optimizer, device="cpu", log_every=4)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(runs.noisy(), runs.data(), config, out=whole)
    for stop in (5, 6, 11):
        result = train(
            runs.noisy(), runs.data(), config, out=parts, watcher=Asks(), resume=stop > 5
        )
        assert (result.interrupted, result.steps) == (True, stop)
    model = runs.noisy()
    result = train(model, runs.data(), config, out=parts, resume=True)
    assert (result.interrupted, result.steps) == (False, 14)
    weights = load_file(whole / "last.safetensors")
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert [r["step"] for r in rows(parts / "log.csv")] == ["4", "8", "12", "14"]
    assert rows(parts / "log.csv") == rows(whole / "log.csv")


def test_time_that_is_spent_stays_spent(tmp_path):
    class Stops:
        def step(self, row, remaining, share):
            if row["step"] == 3:
                time.sleep(0.6)
                raise KeyboardInterrupt

        def evaluated(self, step, metrics):
            pass

    config = TrainConfig(minutes=0.02, batch_size=4, device="cpu")
    first = train(runs.noisy(), runs.data(), config, out=tmp_path, watcher=Stops())
    begun = time.perf_counter()
    second = train(runs.noisy(), runs.data(), config, out=tmp_path, resume=True)
    assert 0.5 < time.perf_counter() - begun + first.seconds < 1.2 + 0.6
    assert second.seconds >= 1.2
    assert second.steps > first.steps == 3


def test_a_finished_run_stays_as_it_is(tmp_path):
    config = TrainConfig(steps=3, batch_size=4, device="cpu")
    train(runs.noisy(), runs.data(), config, out=tmp_path, val=runs.data("val", 4))
    before = outcome(tmp_path)
    result = train(
        runs.noisy(), runs.data(), config, out=tmp_path, val=runs.data("val", 4), resume=True
    )
    logs, tensors = outcome(tmp_path)
    assert result.steps == 3
    assert result.metrics["images"] == 4
    assert logs == before[0]
    assert all(torch.equal(v, before[1][k]) for k, v in tensors.items())


def test_a_run_is_resumed_as_it_was_started(tmp_path):
    config = TrainConfig(steps=3, batch_size=4, device="cpu")
    train(runs.noisy(), runs.data(), config, out=tmp_path)
    changed = TrainConfig(steps=9, batch_size=4, device="cpu", save_steps=2)
    with pytest.raises(CheckpointError, match=r": started with steps 3, not 9: resume with 3$"):
        train(runs.noisy(), runs.data(), changed, out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match=r": started with images 20, not 21: resume with 20$"):
        train(runs.noisy(), runs.data(length=21), config, out=tmp_path, resume=True)
    with pytest.raises(CheckpointError, match="doesn't fit the run's model"):
        train(runs.Noisy(num_classes=12), runs.data(), config, out=tmp_path, resume=True)


def test_a_new_run_forgets_the_old_ones_state(tmp_path):
    old = TrainConfig(steps=2, batch_size=4, device="cpu")
    train(runs.noisy(), runs.data(), old, out=tmp_path)

    class Dies:
        def step(self, row, remaining, share):
            raise RuntimeError("before anything was saved")

    new = TrainConfig(steps=4, batch_size=4, device="cpu")
    with pytest.raises(RuntimeError, match="before anything"):
        train(runs.noisy(), runs.data(), new, out=tmp_path, watcher=Dies())
    assert train(runs.noisy(), runs.data(), new, out=tmp_path, resume=True).steps == 4


@pytest.mark.parametrize("size", [0, 7, 400, -1])
def test_a_damaged_state_is_named(tmp_path, size):
    config = TrainConfig(steps=1, batch_size=4, device="cpu")
    train(runs.noisy(), runs.data(), config, out=tmp_path)
    file = tmp_path / resume_state.NAME
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"last.state.safetensors: truncated"):
        train(runs.noisy(), runs.data(), config, out=tmp_path, resume=True)


class Trap:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (type(self.mark).touch, (self.mark,))


def test_no_state_is_unpickled(tmp_path):
    file, mark = tmp_path / resume_state.NAME, tmp_path / "sprung"
    config = TrainConfig(steps=1, batch_size=4, device="cpu")
    file.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(CheckpointError, match="no training state"):
        train(runs.noisy(), runs.data(), config, out=tmp_path, resume=True)
    assert not mark.exists()
    save_file({"a": torch.zeros(1)}, str(file))
    with pytest.raises(CheckpointError, match="no training state of this version"):
        train(runs.noisy(), runs.data(), config, out=tmp_path, resume=True)


def test_the_state_is_complete(tmp_path):
    config = TrainConfig(steps=2, batch_size=4, device="cpu", ema=0.9)
    train(runs.noisy(), runs.data(), config, out=tmp_path)
    with safe_open(tmp_path / resume_state.NAME, framework="pt") as stored:
        names = set(stored.keys())
    for wanted in (
        "model.net.0.weight",
        "ema.net.0.weight",
        "optimizer.0.exp_avg",
        "random.0.torch",
    ):
        assert wanted in names


def test_generators_go_on_where_they_were():
    import numpy as np

    def drawn():
        return torch.rand(3).tolist(), random.random(), np.random.rand()  # noqa: NPY002

    random.gauss(0, 1)  # stores a second number in the state
    saved = resume_state.random_state()
    wanted = drawn()
    assert drawn() != wanted
    resume_state.set_random_state(saved)
    assert drawn() == wanted


def test_only_asides_are_swept(tmp_path):
    kept = ("last.safetensors", ".hidden", "a.12.b", "log.csv")
    kept += (".env.2024.bak", ".notes.1.txt", ".photo.20240101.jpg", ".last.1.pdf")
    for name in (*kept, ".last.123.safetensors", ".last.state.9.safetensors"):
        (tmp_path / name).touch()
    sweep(tmp_path, RUN_FILES)
    assert {p.name for p in tmp_path.iterdir()} == set(kept)
