"""The same weights and the same photos give the same detections as torchvision."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import detection, get_model
from torchvision.ops import FrozenBatchNorm2d, boxes
from torchvision.transforms._presets import ImageClassification

from detcore.weights import PUBLISHED, load_torchvision

SMALL = {"min_size": 256, "max_size": 448}
RCNN = [name for name in PUBLISHED if name.startswith("fasterrcnn")]
CLASSIFIERS = [name for name in PUBLISHED if name.startswith(("resnet", "mobilenet"))]
SSD = [name for name in PUBLISHED if name.startswith("ssd")]


@pytest.fixture(scope="module")
def photos() -> list[Tensor]:
    """A temple and a flower of scikit-learn's, 427 x 640, and cuts of them of other sizes."""
    temple, flower = (
        torch.from_numpy(image.copy()).permute(2, 0, 1) / 255
        for image in load_sample_images().images
    )
    return [temple, flower[:, 40:411, 100:433], temple[:, :200, 300:601]]


@pytest.fixture(autouse=True)
def exact_nms(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's batched_nms adds class offsets to coordinates, which rounds; its other path
    compares classes."""
    monkeypatch.setattr(boxes, "batched_nms", boxes._batched_nms_vanilla)


def torchvision_model(name: str, photos: list[Tensor], **options: Any) -> nn.Module:
    """A random model whose activations are sane and which finds hundreds of objects."""
    torch.manual_seed(3)
    build: Callable[..., nn.Module] = getattr(detection, name)
    model = build(weights=None, weights_backbone=None, **options)
    with torch.no_grad():
        _follow(model.backbone, torch.stack([_normalised(p) for p in photos]))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                spread = module.running_var.sqrt()
                module.running_mean += 0.1 * spread * torch.randn_like(spread)
                module.running_var *= 0.7 + 0.6 * torch.rand_like(module.running_var)
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(std=0.2)
    for key, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if "cls_score" in key or "classification_head" in key:
                layer.register_forward_pre_hook(partial(_spread, 1.5))
            elif "cls_logits" in key or "bbox_pred" in key or "regression_head" in key:
                layer.register_forward_pre_hook(partial(_spread, 0.3))
    with torch.no_grad():
        model.eval()(photos)
    return model


def _normalised(photo: Tensor) -> Tensor:
    return (F.interpolate(photo[None], (224, 224))[0] - 0.45) / 0.23


def _follow(backbone: nn.Module, batch: Tensor) -> None:
    """Let the batch norms of a random network take the statistics of real photos."""
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.momentum = 1.0
    backbone.train()(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _spread(std: float, layer: nn.Module, inputs: tuple[Tensor]) -> None:
    """Once, at a layer's first call: weights and biases that let its outputs vary by `std`."""
    weight, bias = layer.weight, layer.bias
    size = inputs[0].square().mean().sqrt() + 1e-12
    weight.normal_(std=std / float(size * weight[0].numel() ** 0.5))
    if bias is not None:
        bias.normal_(std=std)
    layer._forward_pre_hooks.clear()


def freeze(model: nn.Module, eps: float) -> None:
    """What the official files' constructors do: fixed norms of the given epsilon."""
    for key, module in list(model.backbone.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(module.num_features, eps=eps)
            frozen.load_state_dict(module.state_dict())
            model.backbone.set_submodule(key, frozen)


def compare(theirs: nn.Module, ours: nn.Module, photos: list[Tensor], *, least: int) -> None:
    with torch.no_grad():
        want = [*theirs(photos[:1]), *theirs(photos)]
        got = [*ours(photos[:1]), *ours(photos)]
    assert sum(len(w["scores"]) for w in want) >= least
    for mine, other in zip(got, want, strict=True):
        torch.testing.assert_close(mine["scores"], other["scores"], atol=1e-5, rtol=0)
        # two detections whose scores differ by less may have changed places
        apart = (mine["boxes"][:, None] - other["boxes"][None]).abs().amax(dim=2)
        unlike = (mine["scores"][:, None] - other["scores"][None]).abs()
        same = (apart < 0.01) & (unlike < 1e-5) & (mine["labels"][:, None] == other["labels"])
        assert same.any(dim=0).all() and same.any(dim=1).all()


@pytest.mark.parametrize("name", RCNN)
def test_faster_rcnn(name: str, photos: list[Tensor]) -> None:
    theirs = torchvision_model(name, photos, **SMALL)
    compare(theirs, load_small(name, theirs), photos, least=300)


@pytest.mark.parametrize(
    ("name", "eps"),
    [("fasterrcnn_resnet50_fpn", 0.0), ("fasterrcnn_mobilenet_v3_large_320_fpn", 1e-5)],
)
def test_frozen_norms_of_the_official_files(name: str, eps: float, photos: list[Tensor]) -> None:
    theirs = torchvision_model(name, photos, **SMALL)
    freeze(theirs, eps)
    ours = load_small(name, theirs)
    norms = [m for m in ours.backbone.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert norms and {norm.eps for norm in norms} == {eps}
    compare(theirs, ours, photos, least=300)


@pytest.mark.slow
@pytest.mark.parametrize("name", RCNN)
def test_faster_rcnn_at_its_published_size(name: str, photos: list[Tensor]) -> None:
    theirs = torchvision_model(name, photos)
    compare(theirs, load_torchvision(name, theirs.state_dict()), photos, least=300)


@pytest.mark.parametrize("name", SSD)
def test_ssd(name: str, photos: list[Tensor]) -> None:
    theirs = torchvision_model(name, photos)
    compare(theirs, load_torchvision(name, theirs.state_dict()), photos, least=600)


def load_small(name: str, theirs: nn.Module) -> nn.Module:
    sizes = {"min_size": SMALL["min_size"], "image_size": SMALL["max_size"]}
    return load_torchvision(name, theirs.state_dict(), **sizes)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name: str, photos: list[Tensor]) -> None:
    torch.manual_seed(3)
    theirs = get_model(name, weights=None)
    with torch.no_grad():
        _follow(theirs, torch.stack([_normalised(p) for p in photos]))
    theirs.eval()
    *_, last = (m for m in theirs.modules() if isinstance(m, nn.Linear))
    last.register_forward_pre_hook(partial(_spread, 3.0))
    transform = ImageClassification(crop_size=224)
    with torch.no_grad():
        theirs(transform(photos[0])[None])
    ours = load_torchvision(name, theirs.state_dict())
    with torch.no_grad():
        want = theirs(torch.stack([transform(p) for p in photos])).softmax(dim=1)
        got = torch.stack([one["scores"] for one in ours(photos)])
    assert want.max() > 0.2
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
