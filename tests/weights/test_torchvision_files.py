"""Weight files: valid ones of every form, and bad ones, whose code must never run."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from detcore.checkpoints import checkpoint
from detcore.checkpoints.checkpoint import CheckpointInfo
from detcore.models import create
from detcore.parts.backbones.torchvision import TorchvisionBackbone
from detcore.weights import PUBLISHED, WeightsError, class_names, load_torchvision, load_trunk

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return get_model("resnet18", weights=None, num_classes=7).state_dict()


def save_pth(state: Any, path: Path) -> Path:
    torch.save(state, path)
    return path


def save_safetensors(state: State, path: Path) -> Path:
    path = path.with_suffix(".safetensors")
    save_file(state, str(path))
    return path


@pytest.mark.parametrize(
    "save",
    [
        save_pth,
        save_safetensors,
        lambda s, p: save_pth({"model": s, "epoch": 3}, p),
        lambda s, p: save_pth({"state_dict": s}, p),
        lambda s, p: s,
    ],
)
def test_every_form_of_file(save: Callable[[State, Path], Any], state: State, tmp_path: Path):
    model = load_torchvision("resnet18", save(state, tmp_path / "weights.pth"))
    assert model.num_classes == 7 and not model.training
    assert torch.equal(model.head.logits.weight, state["fc.weight"])
    assert torch.equal(model.backbone.body.conv1.weight, state["conv1.weight"])


class Runs:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.mark, "run"))


def test_no_file_is_run(state: State, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    torch.save({**state, "evil": Runs(mark)}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Runs(mark)))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(WeightsError, match=f"{name}: .*asks for more than tensors"):
            load_torchvision("resnet18", tmp_path / name)
    assert not mark.exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.999])
def test_files_cut_off(suffix: str, keep: float, state: State, tmp_path: Path) -> None:
    save = save_pth if suffix == ".pth" else save_safetensors
    path = save(state, tmp_path / "weights.pth")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if 0 < keep < 1 else int(keep)])
    with pytest.raises(WeightsError, match="cut off"):
        load_torchvision("resnet18", path)


def test_what_is_no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none.pth: no such file"):
        load_torchvision("resnet18", tmp_path / "none.pth")
    with pytest.raises(WeightsError, match="must hold a state dict, got list"):
        load_torchvision("resnet18", save_pth([1, 2], tmp_path / "list.pth"))
    with pytest.raises(WeightsError, match="must hold tensors by name, got 'a'"):
        load_torchvision("resnet18", save_pth({"a": 1}, tmp_path / "number.pth"))
    with pytest.raises(WeightsError, match="must hold a state dict, got dict"):
        load_torchvision("resnet18", save_pth({}, tmp_path / "empty.pth"))


def test_weights_of_another_model(state: State) -> None:
    with pytest.raises(WeightsError, match=r"name must be one of fasterrcnn.*, got yolo"):
        load_torchvision("yolo", state)
    with pytest.raises(WeightsError, match=r"no weights of ssd300_vgg16: .*module_list.* missing"):
        load_torchvision("ssd300_vgg16", state)
    with pytest.raises(WeightsError, match=r"it lacks \d+ \(backbone.body.layer"):
        load_torchvision("resnet34", state)
    fewer = {k: v for k, v in state.items() if k != "bn1.bias"}
    with pytest.raises(WeightsError, match=r"it lacks 1 \(backbone.body.bn1.bias"):
        load_torchvision("resnet18", fewer)
    with pytest.raises(WeightsError, match=r"1 are not the model's \(backbone.body.more"):
        load_torchvision("resnet18", {**state, "more": torch.zeros(1)})
    wrong = {**state, "conv1.weight": torch.zeros(64, 1, 7, 7)}
    with pytest.raises(WeightsError, match=r"conv1.weight must be \[64, 3, 7, 7\] .* \[64, 1, 7"):
        load_torchvision("resnet18", wrong)


def test_another_number_of_classes_starts_the_last_layer_afresh(state: State) -> None:
    model = load_torchvision("resnet18", state, num_classes=3)
    assert model.head.logits.weight.shape == (3, 512)
    assert torch.equal(model.backbone.body.conv1.weight, state["conv1.weight"])
    same = load_torchvision("resnet18", state, num_classes=7)
    assert torch.equal(same.head.logits.weight, state["fc.weight"])


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_resnet50_fpn_v2"])
def test_another_number_of_classes_of_a_detector(name: str) -> None:
    theirs = get_model(name, weights=None, weights_backbone=None, num_classes=5)
    model = load_torchvision(name, theirs.state_dict(), num_classes=3)
    assert model.num_classes == 3
    target = {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([2])}
    options = {"min_size": 64, "image_size": 96} if name.startswith("faster") else {}
    model = load_torchvision(name, theirs.state_dict(), num_classes=3, **options).train()
    losses = model([torch.rand(3, 64, 64)] * 2, [target] * 2)
    assert all(v.isfinite() for v in losses.values())


def test_a_loaded_model_becomes_a_checkpoint(state: State, tmp_path: Path) -> None:
    model = load_torchvision("resnet18", state)
    names = [str(i) for i in range(7)]
    checkpoint.save(tmp_path / "last.safetensors", model, CheckpointInfo(model.config, names))
    again, _ = checkpoint.load(tmp_path)
    image = [torch.rand(3, 300, 260)]
    with torch.no_grad():
        assert torch.equal(model(image)[0]["scores"], again(image)[0]["scores"])


def test_without_a_network_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def unreachable(*_: Any, **options: Any) -> None:
        assert options["weights_only"] and options["check_hash"]
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError, match=r"could not be fetched .*no route.*network.*or put it"):
        load_torchvision("ssdlite320_mobilenet_v3_large")


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_model_has_its_classes_and_file(name: str) -> None:
    names = class_names(name)
    detector = name.startswith(("faster", "ssd"))
    assert len(names) == (90 if detector else 1000)
    assert names[0] == ("person" if detector else "tench")


def test_a_trunk_is_filled_from_its_classification_network(state: State, tmp_path: Path) -> None:
    path = save_pth(state, tmp_path / "resnet18.pth")
    model = create("yolo", 3, backbone="torchvision:resnet18", image_size=64)
    load_trunk(model.backbone, path)
    assert torch.equal(
        model.backbone.body.get_parameter("layer4.1.conv2.weight"), state["layer4.1.conv2.weight"]
    )
    with pytest.raises(
        WeightsError, match=r"resnet18.pth: not the weights of torchvision:resnet34"
    ):
        load_trunk(TorchvisionBackbone("resnet34", ["layer4"]), path)
    with pytest.raises(WeightsError, match=r"must be one of torchvision's .*, got Backbone"):
        load_trunk(create("yolo", 3, backbone="resnet10t").backbone, path)
