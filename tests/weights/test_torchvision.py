"""The same weights and the same photos give the same detections as torchvision."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d, boxes
from torchvision.transforms._presets import ImageClassification

from benchmarks.models.networks import (
    follow,
    normalised,
    sample_photos,
    spread,
    torchvision_detector,
)
from detcore.weights import PUBLISHED, load_torchvision

# names in torchvision and in detcore, with smaller sizes: the published ones take minutes
SMALL = {"min_size": 192, "max_size": 320, "rpn_post_nms_top_n_test": 200}
OURS_SMALL = {"min_size": 192, "image_size": 320, "proposals": 200}
RCNN = [name for name in PUBLISHED if name.startswith("fasterrcnn")]
CLASSIFIERS = [name for name in PUBLISHED if name.startswith(("resnet", "mobilenet"))]
SSD = [name for name in PUBLISHED if name.startswith("ssd")]


@pytest.fixture(scope="module")
def photos() -> list[Tensor]:
    return sample_photos()


@pytest.fixture(autouse=True)
def exact_nms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torchvision's batched_nms compare classes: its other path adds class offsets to
    coordinates, which rounds them."""
    monkeypatch.setattr(boxes, "batched_nms", boxes._batched_nms_vanilla)


def freeze(model: nn.Module, eps: float) -> None:
    """Freeze norms with the given epsilon, as the constructors for the official files do."""
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
        # detections with nearly equal scores may have changed places
        apart = (mine["boxes"][:, None] - other["boxes"][None]).abs().amax(dim=2)
        unlike = (mine["scores"][:, None] - other["scores"][None]).abs()
        same = (apart < 0.01) & (unlike < 1e-5) & (mine["labels"][:, None] == other["labels"])
        assert same.any(dim=0).all() and same.any(dim=1).all()


@pytest.mark.parametrize("name", RCNN)
def test_faster_rcnn(name: str, photos: list[Tensor]) -> None:
    theirs = torchvision_detector(name, photos, **SMALL)
    compare(theirs, load_small(name, theirs), photos, least=300)


@pytest.mark.parametrize(
    ("name", "eps"),
    [("fasterrcnn_resnet50_fpn", 0.0), ("fasterrcnn_mobilenet_v3_large_320_fpn", 1e-5)],
)
def test_frozen_norms_of_the_official_files(name: str, eps: float, photos: list[Tensor]) -> None:
    theirs = torchvision_detector(name, photos, **SMALL)
    freeze(theirs, eps)
    ours = load_small(name, theirs)
    norms = [m for m in ours.backbone.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert norms and {norm.eps for norm in norms} == {eps}
    compare(theirs, ours, photos, least=300)


@pytest.mark.slow
@pytest.mark.parametrize("name", RCNN)
def test_faster_rcnn_at_its_published_size(name: str, photos: list[Tensor]) -> None:
    theirs = torchvision_detector(name, photos)
    compare(theirs, load_torchvision(name, theirs.state_dict()), photos, least=300)


@pytest.mark.parametrize("name", SSD)
def test_ssd(name: str, photos: list[Tensor]) -> None:
    theirs = torchvision_detector(name, photos)
    compare(theirs, load_torchvision(name, theirs.state_dict()), photos, least=600)


def load_small(name: str, theirs: nn.Module) -> nn.Module:
    return load_torchvision(name, theirs.state_dict(), **OURS_SMALL)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(name: str, photos: list[Tensor]) -> None:
    torch.manual_seed(3)
    theirs = get_model(name, weights=None)
    with torch.no_grad():
        follow(theirs, torch.stack([normalised(p) for p in photos]))
    theirs.eval()
    *_, last = (m for m in theirs.modules() if isinstance(m, nn.Linear))
    last.register_forward_pre_hook(partial(spread, 3.0))
    transform = ImageClassification(crop_size=224)
    with torch.no_grad():
        theirs(transform(photos[0])[None])
    ours = load_torchvision(name, theirs.state_dict())
    with torch.no_grad():
        want = theirs(torch.stack([transform(p) for p in photos])).softmax(dim=1)
        got = torch.stack([one["scores"] for one in ours(photos)])
    assert want.max() > 0.2
    torch.testing.assert_close(got, want, atol=1e-5, rtol=0)
