"""An optimized model gives the same results, and the original model is unchanged."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import detcore
from detcore.models.detector import Detector
from detcore.parts.backbones import as_backbone
from detcore.parts.conv_fusion import FusedConv2d, fuse

from .test_contract import IMAGES, MODELS, small

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def stirred(model: nn.Module) -> nn.Module:
    """Give batch norms random values, so that a lost norm would change the result."""
    generator = torch.Generator().manual_seed(1)
    for norm in model.modules():
        if isinstance(norm, NORMS):
            for value in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
                noise = torch.rand(value.shape, generator=generator) * 0.2
                value.data.add_(noise)
    return model.eval()


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Each row of one result is in the other, up to rounding. Rows with nearly equal scores may
    change places.
    """
    assert one.keys() == other.keys() and len(one["labels"]) == len(other["labels"]) > 0
    if "boxes" not in one:  # of a classifier
        assert torch.equal(one["labels"], other["labels"])
        torch.testing.assert_close(one["scores"], other["scores"], atol=1e-5, rtol=1e-4)
        return
    same = one["labels"][:, None] == other["labels"][None]
    for key in set(one) - {"labels"}:
        atol = 2e-3 if key == "boxes" else 1e-5  # pixels; probabilities
        a, b = (x[key].flatten(1) if x[key].dim() > 1 else x[key][:, None] for x in (one, other))
        same &= torch.isclose(a[:, None], b[None], atol=atol, rtol=1e-4).all(dim=2)
    assert same.any(dim=0).all() and same.any(dim=1).all()


@pytest.mark.parametrize("name", [*MODELS, "faster_rcnn_oriented", "yolo_oriented"])
def test_the_same_answers(name: str) -> None:
    model = stirred(small(name))
    for part in model.modules():  # untrained scores are low, so nothing would be compared
        if isinstance(part, Detector):
            part.postprocess.score_threshold = 0.0
    before = copy.deepcopy(model.state_dict())
    fast = detcore.optimize(model)
    assert type(fast) is type(model)
    assert any(isinstance(m, FusedConv2d) for m in fast.modules())
    assert not any(isinstance(m, NORMS) for m in fast.modules())
    assert not any(p.requires_grad for p in fast.parameters())
    with torch.no_grad():
        for one, other in zip(model(IMAGES), fast(IMAGES), strict=True):
            assert_same(one, other)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", [*MODELS, "faster_rcnn_oriented", "yolo_oriented"])
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
