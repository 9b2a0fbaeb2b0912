"""A model made ready for inference answers as it did, and the one it was made of stays."""

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

import detcore
from detcore.parts.backbone import as_backbone
from detcore.parts.fuse import FusedConv2d, fuse

from .test_contract import IMAGES, MODELS, small

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def stirred(model: nn.Module) -> nn.Module:
    """Batch norms that do something, so that losing one would show."""
    generator = torch.Generator().manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, NORMS):
            for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                noise = torch.rand(value.shape, generator=generator) * 0.2
                value.data.add_(noise)
    return model.eval()


@pytest.mark.parametrize("name", list(MODELS))
def test_the_same_answers(name: str) -> None:
    model = stirred(small(name))
    before = copy.deepcopy(model.state_dict())
    fast = detcore.optimize(model)
    assert type(fast) is type(model)
    assert any(isinstance(m, FusedConv2d) for m in fast.modules())
    assert not any(isinstance(m, NORMS) for m in fast.modules())
    assert not any(p.requires_grad for p in fast.parameters())
    with torch.no_grad():
        for one, other in zip(model(IMAGES), fast(IMAGES), strict=True):
            assert torch.equal(one["labels"], other["labels"])
            for key in set(one) - {"labels"}:
                atol = 2e-3 if key == "boxes" else 1e-5  # pixels; probabilities
                torch.testing.assert_close(one[key], other[key], atol=atol, rtol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", list(MODELS))
def test_bfloat16_inside_float32_outside(name: str) -> None:
    fast = detcore.optimize(small(name), dtype=torch.bfloat16)
    assert {p.dtype for p in fast.parameters()} == {torch.bfloat16}
    with torch.no_grad():
        found = fast(IMAGES)
    assert {v.dtype for one in found for v in one.values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    "name",
    [
        "resnet10t",
        "mobilenetv3_small_050",
        "efficientnet_lite0",
        "cs3darknet_focus_s",
        "edgenext_xx_small",
        "torchvision:resnet18",
        "torchvision:mobilenet_v3_small",
    ],
)
def test_backbones_of_all_kinds(name: str) -> None:
    backbone = stirred(as_backbone(name, (8, 16, 32)))
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        want = backbone(images)
        got = fuse(copy.deepcopy(backbone))(images)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3 * float(other.abs().max()), rtol=1e-3)
