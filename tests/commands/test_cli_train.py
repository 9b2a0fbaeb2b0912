"""detcore train with a settings file, and resuming a run."""

import csv
import json
import os
import signal
import sys

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from detcore import models
from detcore.training import trainer as module
from tests.commands.test_cli import SMALL, call

TINY = ["--model", "classifier", *SMALL, "--option", "head_width=8", "--log-every", 1]


def losses(folder):
    with (folder / "log.csv").open() as stream:
        return [(r["step"], r["loss"], r["lr"]) for r in csv.DictReader(stream)]


def test_a_runs_settings_are_saved_and_start_another(tmp_path):
    a, b, c = (tmp_path / name for name in "abc")
    call("train", "--steps", 2, "--lr", "1e-2", "--drop-at", 0.5, "--no-augment", "--out", a, *TINY)
    saved = yaml.safe_load((a / "config.yaml").read_text())
    assert saved["lr"] == 0.01
    assert saved["model"] == "classifier"
    assert saved["drop_at"] == [0.5]
    assert saved["augment"] is False
    assert saved["option"] == ["head_width=8"]
    assert saved["image_size"] == 64
    assert not {"out", "overwrite", "resume", "config_file"} & set(saved)
    call("train", "--config", a / "config.yaml", "--out", b)
    assert losses(a) == losses(b)
    assert (a / "config.yaml").read_text() == (b / "config.yaml").read_text()
    call("train", "--config", a / "config.yaml", "--out", c, "--lr", "1e-4", "--steps", 1)
    assert losses(c) == [("1", losses(a)[0][1], "1e-06")]  # the same first loss, another rate


def test_a_file_of_ones_own(tmp_path):
    out = tmp_path / "run"
    lines = ["model: classifier", "backbone: test_resnet", "image-size: 64", "batch_size: 2"]
    lines += ["device: cpu", "steps: 1", "lr: 1e-3", "precision: no", f"out: {out}"]
    lines += ["option:", "  head_width: 8"]
    file = tmp_path / "run.yaml"
    file.write_text("\n".join(lines))
    call("train", "--config", file)
    saved = json.loads((out / "last.json").read_text())
    assert saved["model"]["head_width"] == 8
    assert saved["training"]["lr"] == 1e-3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps: 1\nlearning_rate: 1\n", "run.yaml, line 2: unknown setting 'learning_rate'"),
        ("bach_size: 1\n", "did you mean batch_size?"),
        ("steps: ten\n", "run.yaml, line 1: steps: must be a whole number, got 'ten'"),
        ("\nbatch_size: 0\n", "run.yaml, line 2: batch_size: Input should be greater"),
        ("resume: runs/a\n", "unknown setting 'resume'"),
        ("patience: 2\n", "patience counts evaluations; give eval_every too"),
    ],
)
def test_what_is_wrong_in_a_file_is_a_sentence_and_code_2(tmp_path, text, words):
    (tmp_path / "run.yaml").write_text(text)
    said = call("train", "--config", tmp_path / "run.yaml", "--out", tmp_path / "run", code=2)
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_goes_on_with_its_own_settings(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["--steps", 5, "--save-steps", 1, "--ema", 0.9, *TINY]
    call("train", "--out", whole, *arguments)

    step = module._Run._step

    def dies(self, *given):
        if self.progress.step == 3:
            raise RuntimeError("killed")
        step(self, *given)

    monkeypatch.setattr(module._Run, "_step", dies)
    with pytest.raises(RuntimeError, match="killed"):
        call("train", "--out", parts, *arguments)
    monkeypatch.undo()
    assert "holds a run already" in call("train", "--out", parts, *arguments, code=2)
    said = call("train", "--resume", parts, "--lr", 0.5, code=2)
    assert f"--lr 0.5 would change the run in {parts}, where it is 0.002" in said
    assert "would change the run" in call("train", "--resume", parts, "--out", whole, code=2)
    text = call("train", "--resume", parts, "--workers", 1, "--steps", 5)
    assert "done: 5 steps" in text
    assert losses(parts) == losses(whole)
    mine, theirs = (load_file(f / "last.safetensors") for f in (parts, whole))
    assert all(torch.equal(mine[k], theirs[k]) for k in theirs)
    assert "done: 5 steps" in call("train", "--resume", parts)  # nothing left to do


def test_tensorboard_that_is_missing_is_asked_for_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = call("train", "--steps", 1, "--tensorboard", "--out", tmp_path / "run", *TINY, code=2)
    assert "pip install 'detcore[tensorboard]'" in said
    assert not (tmp_path / "run").exists()


def test_a_signal_is_answered_with_how_to_go_on(tmp_path, monkeypatch):
    step = module._Run._step

    def signalled(self, *given):
        step(self, *given)
        if self.progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(module._Run, "_step", signalled)
    text = call("train", "--steps", 9, "--out", tmp_path, *TINY, code=130)
    assert "interrupted after 2 steps" in text
    assert f"continue with: detcore train --resume {tmp_path}" in text
    monkeypatch.undo()
    assert "done: 9 steps" in call("train", "--resume", tmp_path)


def test_a_resumed_run_fetches_no_weights(tmp_path, monkeypatch):
    call("train", "--steps", 1, "--out", tmp_path, *TINY)
    file = tmp_path / "config.yaml"
    text = file.read_text()
    assert "pretrained: false" in text
    file.write_text(text.replace("pretrained: false", "pretrained: true"))
    make, asked = models.create, []

    def create(*arguments, **options):
        asked.append(options.pop("pretrained", False))
        return make(*arguments, **options)

    monkeypatch.setattr(models, "create", create)
    call("train", "--resume", tmp_path)
    for saved in tmp_path.glob("*.safetensors"):  # as if it was killed before the first save
        saved.unlink()
    call("train", "--resume", tmp_path)
    # a saved model is first checked without memory, then built
    assert asked == [False, False, True]


def test_weights_without_their_state_are_not_begun_anew(tmp_path):
    call("train", "--steps", 1, "--out", tmp_path, *TINY)
    before = (tmp_path / "last.safetensors").read_bytes()
    (tmp_path / "last.state.safetensors").unlink()
    said = call("train", "--resume", tmp_path, code=2)
    assert "there are weights, but no last.state.safetensors to go on from" in said
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_a_run_that_ended_before_its_first_step_leaves_the_folder_free(tmp_path):
    arguments = ["--steps", 1, "--out", tmp_path, *TINY]
    said = call("train", "--precision", "fp16", *arguments, code=2)
    assert "precision fp16 needs a GPU" in said
    assert not list(tmp_path.iterdir())
    (tmp_path / "config.yaml").write_text("steps: 1\n")  # of a run that was killed at the start
    assert "done: 1 steps" in call("train", *arguments)


def test_a_run_goes_on_from_any_folder_and_as_the_model_it_is(tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    for name in ("a", "b"):
        (photos / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(photos / name / "1.png")
    monkeypatch.chdir(tmp_path)
    arguments = ["--model", "classifier", "--data", "folder:photos", "--steps", 1]
    call("train", *arguments, "--out", "run", *SMALL)
    monkeypatch.chdir("/")
    assert "done: 1 steps" in call("train", "--resume", tmp_path / "run")
    assert "2 images" in call("eval", "--checkpoint", tmp_path / "run", "--split", "all")
    file = tmp_path / "run" / "config.yaml"
    file.write_text(file.read_text().replace("model: classifier", "model: yolo"))
    said = call("train", "--resume", tmp_path / "run", code=2)
    assert "trains a model classifier, its settings say yolo" in said


def test_what_cannot_be_resumed(tmp_path):
    said = call("train", "--resume", tmp_path / "no", code=2)
    assert "no/config.yaml: no such configuration" in said
    (tmp_path / "config.yaml").write_text("steps: 1\n")
    said = call("train", "--resume", tmp_path, "--config", tmp_path / "config.yaml", code=2)
    assert "give --config or --resume, not both" in said


def test_a_run_killed_before_its_first_save_starts_again(tmp_path):
    call("train", "--steps", 1, "--out", tmp_path, *TINY)
    first = losses(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    call("train", "--resume", tmp_path)
    assert losses(tmp_path) == first
