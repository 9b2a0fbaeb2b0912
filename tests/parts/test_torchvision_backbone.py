import json

import pytest
import torch
import torchvision
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from detcore.parts.backbones import as_backbone
from detcore.parts.backbones.timm import Backbone
from detcore.parts.backbones.torchvision import TorchvisionBackbone


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("resnet18", (4, 8, 16, 32)),
        ("resnet18", (8,)),
        ("vgg11", (8, 16)),
        ("mobilenet_v2", (4, 16, 32)),
        ("mobilenet_v3_small", (8, 16, 32)),
        ("regnet_y_400mf", (8, 32)),
    ],
)
def test_channels_and_strides_are_what_comes_out(name: str, strides: tuple[int, ...]) -> None:
    backbone = as_backbone(f"torchvision:{name}", strides).eval()
    maps = backbone(torch.randn(2, 3, 64, 96))
    assert backbone.strides == strides
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, strides, strict=True)
    ]


def test_maps_are_the_networks_own_and_weights_keep_their_names() -> None:
    whole = torchvision.models.resnet18(weights=None).eval()
    backbone = TorchvisionBackbone("resnet18", ["layer2", "layer4"]).eval()
    state = {f"body.{k}": v for k, v in whole.state_dict().items() if not k.startswith("fc.")}
    backbone.load_state_dict(state)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        middle, last = backbone(x)
        stem = whole.maxpool(whole.relu(whole.bn1(whole.conv1(x))))
        want = whole.layer2(whole.layer1(stem))
        assert torch.equal(middle, want)
        assert torch.equal(last, whole.layer4(whole.layer3(want)))


def test_a_layer_may_lie_inside_a_block() -> None:
    backbone = TorchvisionBackbone(
        "mobilenet_v3_large", ["features.13.block.0", "features.16"], reduced_tail=True
    )
    assert backbone.channels == (672, 480)
    assert backbone.strides == (16, 32)


def test_odd_maps_are_rounded_up_as_resnets_are() -> None:
    x = torch.randn(1, 3, 75, 75)
    for name in ("vgg11", "resnet18"):
        (m,) = as_backbone(f"torchvision:{name}", (16,))(x)
        assert m.shape[2:] == (5, 5)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_input_channels(channels: int) -> None:
    for name in ("resnet18", "vgg11"):
        backbone = as_backbone({"name": f"torchvision:{name}", "in_chans": channels}, (8,))
        assert backbone.in_chans == channels
        backbone(torch.randn(1, channels, 32, 32))


def test_norms_frozen_of_another_epsilon_or_both() -> None:
    options = {"frozen_norm": True, "norm_eps": 0.0}
    backbone = TorchvisionBackbone("resnet18", ["layer1"], **options)
    norms = [m for m in backbone.modules() if isinstance(m, FrozenBatchNorm2d)]
    assert len(norms) == 5 and {m.eps for m in norms} == {0.0}
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    learning = TorchvisionBackbone("resnet18", ["layer1"], norm_eps=1e-3)
    assert {m.eps for m in learning.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize("name", ["torchvision:resnet18", "resnet10t", "cs3darknet_focus_s"])
def test_frozen_maps_do_not_learn_and_do_not_follow(name: str) -> None:
    backbone = as_backbone({"name": name, "frozen_maps": 2}, (8, 16, 32)).train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    sum(m.square().mean() for m in backbone(x)).backward()
    optimizer.step()
    frozen = backbone.eval()(x)
    after = backbone.state_dict()
    again = as_backbone(backbone.config, ()).eval()
    again.load_state_dict(before)
    unlearnt = again(x)
    assert torch.equal(frozen[0], unlearnt[0])
    assert torch.equal(frozen[1], unlearnt[1])
    assert not torch.equal(frozen[2], unlearnt[2])
    assert any(not torch.equal(after[k], v) for k, v in before.items())


def test_config_rebuilds_the_same_architecture() -> None:
    backbone = TorchvisionBackbone("resnet18", None, in_chans=1, frozen_maps=1, norm_eps=1e-4)
    again = as_backbone(json.loads(json.dumps(backbone.config)), ())
    assert isinstance(again, TorchvisionBackbone)
    again.load_state_dict(backbone.state_dict())
    assert again.config == backbone.config


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be a classification network .* got 'resnet_ten'"):
        as_backbone("torchvision:resnet_ten", (8,))
    with pytest.raises(ValueError, match=r"strides \[8, 64\], got \[2, 4, 8, 16, 32"):
        as_backbone("torchvision:resnet18", (8, 64))
    with pytest.raises(ValueError, match=r"layers must name modules of resnet18, got \['layer9'\]"):
        TorchvisionBackbone("resnet18", ["layer9"])
    with pytest.raises(ValueError, match=r"frozen_maps must be in 0..1, got 2"):
        TorchvisionBackbone("resnet18", ["layer4"], frozen_maps=2)
    with pytest.raises(ValueError, match=r"vgg11 does not take \['norm_layer'\]"):
        TorchvisionBackbone("vgg11", norm_eps=1e-3)
    with pytest.raises(ValueError, match=r"frozen_maps must be in 0..3, got 4"):
        Backbone("resnet10t", frozen_maps=4)
    with pytest.raises(ValueError, match="unexpected keyword argument 'out_indexes'"):
        as_backbone({"name": "resnet10t", "out_indexes": [1]}, (8,))
