import pytest
import torch

from detcore.models import MultiTask, create
from detcore.parts.backbones.timm import Backbone

from .test_contract import BACKBONE, IMAGES, TARGETS, small


def both() -> MultiTask:
    backbone = Backbone.at_strides(BACKBONE, (8, 16, 32))
    return MultiTask(
        small("yolo", backbone=backbone), create("classifier", 5, backbone=backbone, image_size=96)
    )


def test_one_pass_gives_both_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    model = both().eval()
    passes = []
    model.detector.backbone.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        found = model(IMAGES)
        assert len(passes) == 1
        for one, other in zip(found, model.detector(IMAGES), strict=True):
            assert all(torch.equal(one[k], other[k]) for k in other)
            assert one["image_scores"].shape == (5,)
            assert one["image_labels"].tolist() == [int(one["image_scores"].argmax())]
        assert model([]) == []


def test_both_losses_reach_the_backbone() -> None:
    model = both().train()
    targets = [{**t, "label": torch.tensor(i)} for i, t in enumerate(TARGETS)]
    losses = model(IMAGES, targets)
    weight = next(model.detector.backbone.parameters())
    for name in ("loss_image_class", "loss_box"):
        (gradient,) = torch.autograd.grad(losses[name], weight, retain_graph=True)
        assert gradient.abs().sum() > 0
    with pytest.raises(ValueError, match="label must be a tensor"):
        model(IMAGES, TARGETS)


def test_two_backbones_are_refused() -> None:
    with pytest.raises(ValueError, match="must have one backbone, got two"):
        MultiTask(small("yolo"), small("classifier"))
