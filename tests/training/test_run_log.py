import csv
import math
import sys
from types import ModuleType

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from detcore.training.run_log import Log
from detcore.utils.optional_imports import MissingPackage


def row(step, loss=1.0):
    return {"step": float(step), "epoch": step / 10, "seconds": step * 2.0, "lr": 0.1, "loss": loss}


def read(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_rows_are_means_and_the_rest_is_written_at_the_end(tmp_path):
    log = Log(tmp_path, 2)
    for step in (1, 2, 3):
        log.add(row(step, loss=step))
    assert [r["loss"] for r in read(tmp_path / "log.csv")] == ["1.5"]
    log.close()
    rows = read(tmp_path / "log.csv")
    assert [(r["step"], r["epoch"], r["seconds"], r["loss"]) for r in rows] == [
        ("2", "0.2", "4", "1.5"),
        ("3", "0.3", "6", "3"),
    ]
    Log(None, 1).add(row(1))  # without a folder


def test_a_resumed_log_has_no_row_twice(tmp_path):
    log = Log(tmp_path, 2)
    for step in range(1, 8):
        log.add(row(step))
        log.evaluated(step, step / 10, {"mAP": step / 10, "seconds": 3.0, "images": 5})
    log.close()
    with (tmp_path / "log.csv").open("a") as stream:
        stream.write("9,0.")  # killed while writing
    # killed between an evaluation and the save after it, so the evaluation is repeated
    again = Log(tmp_path, 2, resumed_at=5, evaluated_at=4, pending=[row(5)])
    assert [r["step"] for r in read(tmp_path / "log.csv")] == ["2", "4"]
    assert [r["step"] for r in read(tmp_path / "val.csv")] == ["1", "2", "3", "4"]
    again.add(row(6, loss=3.0))
    assert [(r["step"], r["loss"]) for r in read(tmp_path / "log.csv")][-1] == ("6", "2")
    Log(tmp_path, 2)
    assert not (tmp_path / "log.csv").exists()  # a new run


def test_evaluations_keep_their_columns(tmp_path):
    log = Log(tmp_path, 1)
    log.evaluated(1, 0.5, {"mAP": 0.1, "AP75": None, "images": 3, "per_class": [], "task": "x"})
    log.evaluated(2, 1.0, {"mAP": 0.2, "AP75": 0.3})
    first, second = read(tmp_path / "val.csv")
    assert list(first) == ["step", "epoch", "mAP", "AP75"]
    assert math.isnan(float(first["AP75"]))
    assert second == {"step": "2", "epoch": "1", "mAP": "0.2", "AP75": "0.3"}


def test_tensorboard_gets_the_same(tmp_path, monkeypatch):
    seen = []

    class SummaryWriter:
        def __init__(self, log_dir, purge_step=None):
            seen.append((log_dir, purge_step))

        def add_scalar(self, name, value, step):
            seen.append((name, value, step))

        def close(self):
            seen.append("closed")

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    log = Log(tmp_path, 1, tensorboard=True, resumed_at=4)
    log.add(row(5, loss=2.0))
    log.evaluated(5, 0.5, {"mAP": 0.4})
    log.close()
    assert seen[0] == (str(tmp_path / "tensorboard"), 5)
    assert ("train/loss", 2.0, 5) in seen
    assert ("val/mAP", 0.4, 5) in seen
    assert seen[-1] == "closed"


def test_tensorboard_itself_reads_it(tmp_path):
    log = Log(tmp_path, 1, tensorboard=True)
    log.add(row(1, loss=2.0))
    log.add(row(2, loss=1.5))
    log.evaluated(2, 0.5, {"mAP": 0.4})
    log.close()
    seen = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in seen.Scalars("train/loss")] == [(1, 2.0), (2, 1.5)]
    assert [e.value for e in seen.Scalars("val/mAP")] == pytest.approx([0.4])


def test_without_tensorboard_one_sentence_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingPackage, match=r"needs tensorboard: pip install 'detcore\[tensor"):
        Log(tmp_path, 1, tensorboard=True)
