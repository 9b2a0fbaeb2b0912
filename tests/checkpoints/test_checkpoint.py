import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from detcore import models
from detcore.checkpoints import checkpoint
from detcore.checkpoints.checkpoint import CheckpointError, CheckpointInfo, find, load, save
from detcore.utils.atomic_write import atomic

INFO = {
    "classes": ["a", "b", "c"],
    "task": "classification",
    "step": 7,
    "data": {"spec": "digits"},
    "training": {"lr": 0.1},
    "metrics": {"accuracy": 0.5},
}


def classifier(classes=3):
    torch.manual_seed(0)
    return models.create("classifier", classes, backbone="test_resnet", image_size=32)


@pytest.fixture
def saved(tmp_path):
    model = classifier()
    info = CheckpointInfo(model=model.config, **INFO)
    save(tmp_path / "last.safetensors", model, info)
    return tmp_path, model.eval(), info


def test_round_trip(saved):
    folder, model, info = saved
    again, read = load(folder)
    assert read == info
    assert not again.training
    image = [torch.rand(3, 40, 30)]
    assert torch.equal(model(image)[0]["scores"], again(image)[0]["scores"])
    assert json.loads((folder / "last.json").read_text())["classes"] == ["a", "b", "c"]
    assert sorted(p.name for p in folder.iterdir()) == ["last.json", "last.safetensors"]


def test_a_folder_gives_best_before_last(saved):
    folder, model, info = saved
    assert find(folder).name == "last.safetensors"
    save(folder / "best.safetensors", model, info)
    assert find(folder).name == "best.safetensors"
    assert find(folder / "last.safetensors").name == "last.safetensors"
    for path, words in ((folder / "no", "no such checkpoint"), (folder.parent, "no checkpoint h")):
        with pytest.raises(CheckpointError, match=words):
            find(path)


@pytest.mark.parametrize("size", [0, 5, 300, -1])
def test_truncated_files_are_refused(saved, size):
    file = saved[0] / "last.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"last.safetensors: truncated, or no safetensors"):
        load(saved[0])


class Trap:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_nothing_is_unpickled(tmp_path):
    mark = tmp_path / "sprung"
    (tmp_path / "last.safetensors").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(CheckpointError, match="no safetensors file"):
        load(tmp_path)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Trap(mark)))
    assert mark.exists()  # the trap works if something is unpickled


def test_foreign_files_are_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, str(tmp_path / "last.safetensors"))
    with pytest.raises(CheckpointError, match="not a checkpoint of detcore"):
        load(tmp_path)
    save_file({"a": torch.zeros(1)}, str(tmp_path / "last.safetensors"), {"detcore": "{"})
    with pytest.raises(CheckpointError, match="not a checkpoint of detcore"):
        load(tmp_path)
    text = json.dumps({"format": 99, "model": {}, "classes": []})
    save_file({"a": torch.zeros(1)}, str(tmp_path / "last.safetensors"), {"detcore": text})
    with pytest.raises(CheckpointError, match="another version"):
        load(tmp_path)


def test_weights_that_do_not_fit_are_named(saved):
    folder, _model, info = saved
    tensors = load_file(str(folder / "last.safetensors"))
    header = json.dumps({"format": 1, **vars(info)})
    name = next(n for n in tensors if tensors[n].ndim == 4)
    wrong = {**tensors, name: torch.zeros(2, 2), "odd": torch.zeros(1)}
    missing = next(n for n in tensors if n != name)
    del wrong[missing]
    save_file(wrong, str(folder / "last.safetensors"), {"detcore": header})
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    wanted = list(tensors[name].shape)
    for words in (
        f"{missing} is missing",
        "odd is unknown",
        f"{name} must be {wanted}, got [2, 2]",
    ):
        assert words in str(caught.value)


def test_a_model_that_cannot_be_built_is_one_sentence(saved):
    folder, model, _info = saved
    bad = CheckpointInfo(model={"model": "resnet_of_doom", "num_classes": 3}, **INFO)
    save(folder / "last.safetensors", model, bad)
    with pytest.raises(CheckpointError, match=r"its model can't be built .*resnet_of_doom"):
        load(folder)


def test_a_failed_save_leaves_the_old_one_whole(saved, monkeypatch):
    folder, model, info = saved
    before = (folder / "last.safetensors").read_bytes()

    def half(tensors, path, metadata):
        Path(path).write_bytes(before[:1000])
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save(folder / "last.safetensors", model, info)
    assert (folder / "last.safetensors").read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == ["last.json", "last.safetensors"]


def test_weights_and_configuration_come_with_one_rename(saved, monkeypatch, caplog):
    # killed between the renames of weights and JSON: weights and configuration don't match
    folder, _, _info = saved
    other = classifier(5)
    names = ["a", "b", "c", "d", "e"]
    changed = CheckpointInfo(model=other.config, **{**INFO, "classes": names})
    old = (folder / "last.json").read_text()
    save(folder / "last.safetensors", other, changed)
    (folder / "last.json").write_text(old)
    model, read = load(folder)
    assert read.classes == names
    assert model.config["num_classes"] == 5
    assert "last.json is not what these weights were saved with" in caplog.text
    (folder / "last.json").unlink()
    assert load(folder)[1].classes == names


def test_atomic_files(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path) as aside:
        aside.write_text("one")
        assert not path.exists()
        assert aside.suffix == ".txt"
    assert path.read_text() == "one"


def test_who_reads_the_old_file_is_not_disturbed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    with path.open() as reader:
        with atomic(path) as aside:
            aside.write_text("two")
        assert reader.read() == "one"  # a new file replaced the name; the old file is unchanged
    assert path.read_text() == "two"


def test_a_failed_write_leaves_nothing_aside(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")

    def fail():
        with atomic(path) as aside:
            aside.write_text("two")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_shared_weights_survive(tmp_path):
    model = classifier()
    model.twin = model.head
    info = CheckpointInfo(model=model.config, **INFO)
    save(tmp_path / "last.safetensors", model, info)
    _, tensors = checkpoint.read(tmp_path / "last.safetensors")
    names = [n for n in tensors if n.startswith("twin.")]
    assert names
    assert all(torch.equal(tensors[n], tensors[n.replace("twin", "head")]) for n in names)
