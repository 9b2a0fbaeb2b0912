"""Published models on the command line and from Python."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model
from typer.testing import CliRunner

from detcore.checkpoints.checkpoint import CheckpointInfo
from detcore.checkpoints.load_model import named_as, open_model
from detcore.cli import app
from detcore.parts.conv_fusion import FusedConv2d
from detcore.utils.errors import UsageError

CFG = """[net]
width=32
height=32
channels=3
[convolutional]
filters=14
size=1
stride=32
activation=linear
[yolo]
mask=0,1
anchors=8,8, 16,16
classes=2
num=2
"""


def call(*arguments: Any) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = torch.randint(0, 256, (48, 64, 3), generator=torch.Generator().manual_seed(0))
    path = tmp_path / "photo.png"
    Image.fromarray(pixels.to(torch.uint8).numpy()).save(path)
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(get_model("resnet18", weights=None).state_dict(), path)
    return path


@pytest.fixture
def darknet(tmp_path: Path) -> tuple[Path, Path]:
    cfg, weights = tmp_path / "net.cfg", tmp_path / "net.weights"
    cfg.write_text(CFG)
    floats = torch.zeros(14 + 14 * 3)
    floats[:14] = torch.tensor([0, 0, 0, 0, 3, 3, -3] * 2)  # sure of an object of the first class
    weights.write_bytes(struct.pack("<3iq", 0, 2, 5, 0) + floats.numpy().astype("<f4").tobytes())
    return cfg, weights


def test_a_classifier_of_torchvisions_names_a_photo(classifier: Path, photo: Path, tmp_path: Path):
    out = tmp_path / "answers.json"
    code, text = call(
        "predict", photo, "--model", "resnet18", "--weights", classifier, "--top-k", 2,
        "--json", out, "--optimize", "fp32",
    )  # fmt: skip
    assert code == 0, text
    (answer,) = json.loads(out.read_text())
    net, info = open_model(None, "resnet18", str(classifier))
    with torch.no_grad():
        scores = net([_pixels(photo)])[0]["scores"]
    best = scores.argsort(descending=True)[:2]
    assert [c["class"] for c in answer["classes"]] == [info.classes[i] for i in best]


def test_a_darknet_network_finds_and_names(darknet: tuple[Path, Path], photo: Path, tmp_path: Path):
    names = tmp_path / "net.names"
    names.write_text("cell\n\nplatelet\n")
    out = tmp_path / "answers.json"
    arguments = ("--model", darknet[0], "--weights", darknet[1], "--json", out)
    assert call("predict", photo, *arguments)[0] == 0
    assert {d["class"] for d in json.loads(out.read_text())[0]["detections"]} == {"class 1"}
    assert call("predict", photo, *arguments, "--names", names)[0] == 0
    assert {d["class"] for d in json.loads(out.read_text())[0]["detections"]} == {"cell"}
    names.write_text("cell\n")
    code, text = call("predict", photo, *arguments, "--names", names)
    assert code == 2 and "2 names wanted, one per class, got 1" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "resnet18"), "give --checkpoint, or --model with --weights"),
        (("--weights", "x.pth"), "give --checkpoint, or --model with --weights"),
        ((), "give --checkpoint, or --model with --weights"),
        (("--model", "resnet19", "--weights", "x.pth"), "must be a Darknet .cfg or one of"),
        (("--model", "resnet18", "--weights", "x.pth"), "x.pth: no such file"),
        (("--model", "x.cfg", "--weights", "x.weights"), "x.cfg"),
        (("--checkpoint", "run", "--optimize", "fp8"), "must be one of no, fp32, bf16, got 'fp8'"),
    ],
)
def test_what_cannot_be_opened_is_said(arguments: tuple[str, ...], words: str, photo: Path) -> None:
    code, text = call("predict", photo, *arguments)
    assert code == 2
    assert words in " ".join(text.split())


def test_speed_is_asked_for(classifier: Path) -> None:
    net, _ = open_model(None, "resnet18", str(classifier), speed="bf16")
    assert any(isinstance(m, FusedConv2d) for m in net.modules())
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}


class Found(nn.Module):
    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        labels = torch.tensor([1, 3, 2, 1])
        return [{"boxes": torch.arange(16.0).view(4, 4), "scores": torch.ones(4), "labels": labels}]


class Data:
    task = "detection"

    def __init__(self, *classes: str) -> None:
        self.classes = list(classes)


def test_a_model_of_more_classes_finds_the_datas_by_name() -> None:
    info = CheckpointInfo({}, ["person", "bicycle", "car"])
    net = named_as(Found(), info, Data("car", "person"))  # type: ignore[arg-type]
    (found,) = net([])
    assert found["labels"].tolist() == [2, 1, 2]
    assert found["boxes"][:, 0].tolist() == [0, 4, 12]
    same = Found()
    assert named_as(same, info, Data(*info.classes)) is same  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="the data has the classes person, dog, the model person"):
        named_as(same, info, Data("person", "dog"))  # type: ignore[arg-type]


def _pixels(path: Path) -> torch.Tensor:
    from detcore.data import read_image

    return read_image(path) / 255
