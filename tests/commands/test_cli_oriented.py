"""Oriented boxes from the command line: train, evaluate, predict, and score what was written."""

import json
from pathlib import Path

import pytest
import yaml

from tests.commands.test_cli import SMALL, call

TINY = ["--model", "yolo", *SMALL, "--option", "neck_channels=16", "--option", "head_width=16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    text = call("train", "--oriented", "--rotate", 20, "--steps", 2, "--out", out, *TINY)
    assert "digits: 10000 train" in text
    assert yaml.safe_load((out / "config.yaml").read_text())["oriented"] is True
    return out


def test_a_run_says_that_it_is_oriented(run: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    report = tmp_path / "report.html"
    saved = tmp_path / "dets.json"
    options = ["--limit", 8, "--json", figures, "--report", report, "--save-results", saved]
    text = call("eval", "--checkpoint", run, *options)
    assert "mAP" in text
    measured = json.loads(figures.read_text())
    assert "angle_error" in measured
    assert "AP75" in measured
    assert "data:image" in report.read_text()
    rows = json.loads(saved.read_text())
    assert rows and all(len(row["bbox"]) == 5 for row in rows)


def test_what_is_predicted_is_drawn_and_scored_again(run: Path, tmp_path: Path) -> None:
    saved, out = tmp_path / "dets.json", tmp_path / "drawn"
    options = ["--data", "digits", "--count", 3, "--score", 0, "--out", out]
    call("predict", "--checkpoint", run, *options, "--save", saved, "--format", "coco")
    assert (out / "overview.png").is_file()
    assert all(len(row["bbox"]) == 5 for row in json.loads(saved.read_text()))
    text = call("eval", "--results", saved, "--data", "digits")
    assert "mAP" in text


def test_a_resumed_run_goes_on_oriented(tmp_path: Path) -> None:
    """With no step left it measures again, on turned digits."""
    call("train", "--oriented", "--steps", 2, "--out", tmp_path, *TINY)
    assert "AP75" in call("train", "--resume", tmp_path)


def test_faster_rcnn_is_trained_and_measured(tmp_path: Path) -> None:
    tiny = ["--model", "faster_rcnn", *SMALL, "--option", "fpn_channels=16"]
    tiny += ["--option", "head_width=16", "--option", "proposals=20"]
    figures = tmp_path / "figures.json"
    call("train", "--oriented", "--steps", 1, "--batch-size", 2, "--out", tmp_path / "a", *tiny)
    call("eval", "--checkpoint", tmp_path / "a", "--limit", 4, "--json", figures)
    assert "angle_error" in json.loads(figures.read_text())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--model", "ssd", "--oriented"],
            "--oriented is for --model faster_rcnn or yolo, got --model ssd",
        ),
        (["--model", "classifier", "--oriented"], "oriented boxes are of detection"),
        (["--model", "yolo", "--rotate", "5"], "--rotate turns oriented boxes; give --oriented"),
    ],
)
def test_what_does_not_go_together_is_refused(
    options: list[str], words: str, tmp_path: Path
) -> None:
    text = call("train", *options, "--steps", 1, "--out", tmp_path / "a", *SMALL, code=2)
    assert words in " ".join(text.split())


def test_oriented_weights_need_oriented_data(run: Path, tmp_path: Path) -> None:
    options = ["--weights", run, "--steps", 1, "--out", tmp_path / "a"]
    text = call("train", *options, code=2)
    assert "holds a model of oriented boxes; give --oriented" in " ".join(text.split())
    assert "step 1" in call("train", "--oriented", *options, "--batch-size", 2)


def test_views_of_an_oriented_model_are_refused(run: Path) -> None:
    text = call("predict", "--checkpoint", run, "--data", "digits", "--tta", code=2)
    assert "--tta fuses upright boxes, the checkpoint finds oriented ones" in " ".join(text.split())
