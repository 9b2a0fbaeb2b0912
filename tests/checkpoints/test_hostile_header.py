"""Untrusted checkpoints: their headers are checked before anything is built."""

import json
import socket
import time

import pytest
import torch
from safetensors.torch import save_file

from detcore import models
from detcore.checkpoints.checkpoint import CheckpointError, load
from detcore.weights.files import WeightsError, read_state


@pytest.fixture(scope="module")
def sound():
    torch.manual_seed(0)
    model = models.create("classifier", 3, backbone="test_resnet", image_size=32)
    said = {
        "format": 1,
        "model": model.config,
        "classes": ["a", "b", "c"],
        "task": "classification",
        "data": {},
        "training": {},
        "step": 3,
        "metrics": {},
    }
    return said, {k: v.clone() for k, v in model.state_dict().items()}


def saved(folder, said, tensors):
    file = folder / "last.safetensors"
    text = said if isinstance(said, str) else json.dumps(said)
    save_file(tensors, str(file), metadata={"detcore": text})
    return file


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a checkpoint must not make loading go anywhere")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("place", ["model", "backbone"])
def test_pretrained_in_a_header_is_passed_over(tmp_path, sound, place):
    said, tensors = json.loads(json.dumps(sound[0])), sound[1]
    if place == "model":
        said["model"]["pretrained"] = True
    else:
        said["model"]["backbone"] = {"name": "test_resnet", "out_indices": [4], "pretrained": True}
        said["model"]["backbone"].pop("out_indices")
    model, info = load(saved(tmp_path, said, tensors))
    assert "pretrained" not in json.dumps(info.model)
    assert not model.training


def changed(path, value):
    def change(said):
        *way, last = path.split(".")
        for key in way:
            said = said[key]
        if value is KeyError:
            said.pop(last)
        else:
            said[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("model", [], "must have a dict 'model'"),
        ("model", KeyError, "must have a dict 'model'"),
        ("classes", 5, "must have a list 'classes'"),
        ("classes", ["a", 3, "c"], "must have names as classes"),
        ("classes", ["a"], "names 1 classes, so its model must have 1, got 3"),
        ("task", "cooking", "must have task"),
        ("step", -1, "must have a step"),
        ("more", 1, "unknown key 'more'"),
        ("format", 9, "written by another version"),
        ("model.image_size", "big", "wanted a whole number"),
        ("model.image_size", 0, "wanted a number from 1"),
        ("model.image_size", -5, "wanted a number from 1"),
        ("model.image_size", 1e300, "wanted a finite number"),
        ("model.image_size", float("nan"), "wanted a finite number"),
        ("model.num_classes", 10**12, "wanted a number up to"),
        ("model.num_classes", True, "wanted a whole number"),
        ("model.backbone", {"name": "test_resnet", "in_chans": 10**9}, "wanted a number up to"),
        ("model.backbone", {"name": "test_resnet", "in_chans": 60_000}, "don't fit their model"),
        ("model.backbone", {"name": "hf-hub:some/where"}, "can't be built"),
        ("model.backbone", "no_such_net", "can't be built"),
        ("model.backbone", [["a"] * 2000], "wanted up to 1000"),
        ("model.model", "tiny", "can't be built"),
        ("model.model", 3, "names no model"),
        ("model.top_k", "x", "can't be built"),
        ("data", [[[]]], "must have a dict 'data'"),
        ("metrics", json.loads("[" * 50 + "]" * 50), "must have a dict 'metrics'"),
        ("metrics", {"x": json.loads("[" * 50 + "]" * 50)}, "has too much in metrics"),
    ],
)
@pytest.mark.usefixtures("no_network")
def test_a_header_that_makes_no_sense(tmp_path, sound, path, value, words):
    said = json.loads(json.dumps(sound[0]))
    changed(path, value)(said)
    file = saved(tmp_path, said, sound[1])
    started = time.perf_counter()
    with pytest.raises(CheckpointError, match=rf"^{file}: .*{words}"):
        load(file)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("text", ["", "[]", "3", "[" * 100_000, "{}", '{"format": 1}'])
def test_a_header_that_is_none(tmp_path, sound, text):
    with pytest.raises(CheckpointError, match=r"last.safetensors: "):
        load(saved(tmp_path, text, sound[1]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: t.fill_(float("nan")) if t.is_floating_point() else t, "holds NaN or infinity"),
        (lambda t: t.long(), "must be of real numbers, got torch.int64"),
        (lambda t: t.to(torch.complex64), "numbers, got torch.complex64"),
        (lambda t: t[None], "must be .* got"),
    ],
)
def test_weights_of_another_kind(tmp_path, sound, make, words):
    tensors = {k: make(v.clone()) for k, v in sound[1].items()}
    with pytest.raises(CheckpointError, match=words):
        load(saved(tmp_path, sound[0], tensors))


def test_a_neighbour_that_is_no_text(tmp_path, sound, caplog):
    file = saved(tmp_path, sound[0], sound[1])
    file.with_suffix(".json").write_bytes(b"\xff\x81\x00")
    load(file)
    assert "last.json is not what these weights were saved with" in caplog.text


@pytest.mark.parametrize(
    "content",
    [b"Not Found...", b"<html>", b"", b"\x80\x02", b"}q\x00.", b"PK\x03\x04", b"cos\nsystem\n"],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_file_of_weights_that_is_none(tmp_path, content, suffix):
    file = tmp_path / f"model.{suffix}"
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"model.{suffix}: "):
        read_state(file)
