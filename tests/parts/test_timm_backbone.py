import json

import pytest
import torch
from torch import nn

from detcore.parts.backbones import as_backbone
from detcore.parts.backbones.timm import Backbone


@pytest.mark.parametrize(
    ("name", "strides"),
    [
        ("resnet10t", (8, 16, 32)),
        ("resnet18", (4, 8, 16, 32)),
        ("mobilenetv3_small_100", (8, 32)),
        ("edgenext_xx_small", (4, 8)),
        ("cs3darknet_focus_s", (2, 16)),
    ],
)
def test_channels_and_strides_are_what_comes_out(name: str, strides: tuple[int, ...]) -> None:
    backbone = Backbone.at_strides(name, strides).eval()
    maps = backbone(torch.randn(2, 3, 64, 96))
    assert backbone.strides == strides
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, strides, strict=True)
    ]


def test_any_out_indices_and_input_channels() -> None:
    backbone = Backbone("resnet10t", (0, 3), in_chans=5)
    maps = backbone(torch.randn(1, 5, 32, 32))
    assert backbone.strides == (2, 16)
    assert [m.shape[1] for m in maps] == list(backbone.channels)


def test_channels_last_families_come_out_as_nchw() -> None:
    backbone = Backbone("swinv2_cr_tiny_224", (0, 1))
    maps = backbone(torch.randn(1, 3, 224, 224))
    assert [m.shape[1] for m in maps] == list(backbone.channels)


def test_frozen_norm_neither_learns_nor_follows_the_batch() -> None:
    backbone = Backbone("resnet10t", frozen_norm=True).train()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules())
    before = {k: v.clone() for k, v in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 32, 32))
    assert before
    assert all(torch.equal(v, before[k]) for k, v in backbone.named_buffers())


def test_config_rebuilds_the_same_architecture() -> None:
    backbone = Backbone("resnet10t", (1, 3), in_chans=1, frozen_norm=True)
    again = Backbone(**json.loads(json.dumps(backbone.config)))
    again.load_state_dict(backbone.state_dict())
    assert again.config == backbone.config


def test_unknown_names_indices_and_strides_say_so() -> None:
    with pytest.raises(ValueError, match="name must be a timm model, got 'resnet_ten'"):
        Backbone("resnet_ten")
    with pytest.raises(ValueError, match=r"must name feature maps of resnet10t, got \[7\]"):
        Backbone("resnet10t", (7,))
    with pytest.raises(
        ValueError, match=r"must have maps of strides \[8, 64\], got \[2, 4, 8, 16, 32\]"
    ):
        Backbone.at_strides("resnet10t", (8, 64))


def test_as_backbone_takes_a_name_a_mapping_or_a_module() -> None:
    named = as_backbone("resnet10t", (16,))
    assert named.strides == (16,)
    assert as_backbone({"name": "resnet10t", "out_indices": [4]}, (16,)).strides == (32,)
    assert as_backbone(named, (8, 16)) is named
    with pytest.raises(ValueError, match="module with channels and strides, got Linear"):
        as_backbone(nn.Linear(1, 1), (8,))
