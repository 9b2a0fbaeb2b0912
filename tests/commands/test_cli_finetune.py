"""detcore train from published weights."""

import json

import pytest
import torch
from PIL import Image
from torchvision.models import get_model

from detcore import models
from detcore.checkpoints import checkpoint
from tests.commands.test_cli import call

SHORT = ["--image-size", "64", "--batch-size", "2", "--device", "cpu", "--steps", 1]


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    return path


def test_a_published_model_goes_on_with_the_datas_classes(resnet18, tmp_path):
    out = tmp_path / "run"
    arguments = ["--model", "resnet18", "--weights", resnet18, "--lr", 0, "--freeze-norms"]
    call("train", *SHORT, *arguments, "--weight-decay", 0, "--out", out)
    config = json.loads((out / "last.json").read_text())["model"]
    assert config["num_classes"] == 10  # digits
    net, _ = checkpoint.load(out)
    given = torch.load(resnet18, weights_only=True)
    assert torch.equal(net.backbone.body.conv1.weight, given["conv1.weight"])
    assert net.head.logits.weight.shape == (10, 512)
    # to resume, the run's own files are enough
    call("train", *SHORT, *arguments, "--out", out, "--overwrite")
    text = (out / "config.yaml").read_text()
    assert str(resnet18) in text
    (out / "config.yaml").write_text(text.replace(str(resnet18), "gone.pth"))
    assert "done: 1 steps" in call("train", "--resume", out)


def test_a_run_begins_with_an_earlier_ones_weights(tmp_path):
    small = ["--model", "yolo", "--backbone", "test_resnet", "--option", "neck_channels=16"]
    call("train", *SHORT, *small, "--option", "head_width=16", "--out", tmp_path / "old")
    old, _ = checkpoint.load(tmp_path / "old")
    data = tmp_path / "data"
    data.mkdir()
    Image.new("RGB", (64, 64)).save(data / "a.png")
    (data / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (data / "classes.txt").write_text("thing\n")
    still = ["--lr", 0, "--weight-decay", 0, "--freeze-norms", "--model", "yolo"]
    begin = [*SHORT, *still, "--data", f"yolo:{data}", "--weights", tmp_path / "old"]
    call("train", *begin, "--option", "score_threshold=0.2", "--out", tmp_path / "new")
    new, info = checkpoint.load(tmp_path / "new")
    # like the old model, except for given options and the classes
    assert info.model["neck_channels"] == 16 and info.model["score_threshold"] == 0.2
    mine, theirs = new.state_dict(), old.state_dict()
    fresh = {k for k in mine if mine[k].shape != theirs[k].shape}
    assert fresh and all("class" in k for k in fresh), fresh
    assert all(torch.equal(mine[k], theirs[k]) for k in mine.keys() - fresh)
    # with the same number of classes, all weights are used
    call("train", *SHORT, *still, "--weights", tmp_path / "old", "--out", tmp_path / "same")
    same, _ = checkpoint.load(tmp_path / "same")
    assert all(torch.equal(v, theirs[k]) for k, v in same.state_dict().items())
    said = call("train", *SHORT, "--model", "ssd", "--weights", tmp_path / "old", code=2)
    assert "holds a model yolo, got --model ssd" in said


def test_a_detectors_trunk_begins_with_a_classifiers_weights(resnet18, tmp_path):
    out = tmp_path / "run"
    arguments = ["--model", "yolo", "--backbone", "torchvision:resnet18", "--trunk", resnet18]
    call("train", *SHORT, *arguments, "--lr", 0, "--weight-decay", 0, "--out", out)
    net, _ = checkpoint.load(out)
    given = torch.load(resnet18, weights_only=True)
    assert torch.equal(net.backbone.body.conv1.weight, given["conv1.weight"])


def test_a_frozen_backbone_stays_through_a_run_and_its_resumption(tmp_path):
    out = tmp_path / "run"
    arguments = [*SHORT[:-1], 3, "--model", "yolo", "--backbone", "test_resnet", "--lr", 0.1]
    arguments += [
        "--weight-decay",
        0.5,
        "--option",
        "neck_channels=16",
        "--option",
        "head_width=16",
    ]
    call("train", *arguments, "--freeze-backbone", "--save-steps", 1, "--out", out)
    torch.manual_seed(0)
    fresh = models.create("yolo", 11, backbone="test_resnet", neck_channels=16, head_width=16)
    net, _ = checkpoint.load(out)
    wanted = fresh.backbone.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in net.backbone.state_dict().items())
    moved = [
        not torch.equal(a, b) for a, b in zip(net.parameters(), fresh.parameters(), strict=True)
    ]
    assert any(moved)
    assert "done: 3 steps" in call("train", "--resume", out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "resnet18"], "--model resnet18 needs --weights, torchvision or a file"),
        (["--model", "yolo", "--weights", "x.pth"], "x.pth: no such checkpoint"),
        (["--model", "cascade", "--backbone", "resnet18"], "a cascade has two"),
        (["--model", "resnet18", "--weights", "x.pth"], "x.pth: no such file"),
        (["--model", "yolo", "--trunk", "x.pth"], "the backbone must be one of torchvision's"),
        (["--model", "resnet18", "--weights", "x.pth", "--data", "BOXES"], "doesn't do"),
    ],
)
def test_what_does_not_go_together_is_said(arguments, words, tmp_path):
    if "BOXES" in arguments:
        image = {"id": 1, "file_name": "a.png", "width": 9, "height": 9}
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9}
        document = {"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "a"}]}
        (tmp_path / "boxes.json").write_text(json.dumps(document))
        Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
        arguments = [tmp_path / "boxes.json" if a == "BOXES" else a for a in arguments]
    text = call("train", *SHORT, *arguments, "--out", tmp_path / "run", code=2)
    assert words in " ".join(text.split())
