from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detcore.models import create


def test_learns_pictures_by_heart(
    scenes: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    model = create("faster_rcnn", 4, image_size=128, proposals=50, box_samples=32)
    assert fit(model, *scenes, steps=200) < 0.05
    assert_all_found(model, *scenes)


def test_one_map_serves_both_stages_without_a_pyramid(
    scenes: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    model = create(
        "faster_rcnn",
        4,
        backbone={"name": "mobilenetv3_small_100", "out_indices": [3]},
        image_size=128,
        fpn_channels=None,
        anchor_scale=2.0,
        proposals=50,
        box_samples=32,
    )
    assert model.backbone.strides == (16,)
    assert len(model.anchors) == 1 and len(model.anchors[0]) == 4 * 3
    assert fit(model, *scenes, steps=200, lr=2e-3) < 0.05
    assert_all_found(model, *scenes)


def test_maps_of_one_stride_are_pooled_from_the_first() -> None:
    backbone = {
        "name": "torchvision:mobilenet_v3_small",
        "layers": ["features.8", "features.9", "features.12"],
    }
    model = create("faster_rcnn", 3, backbone=backbone, image_size=96).eval()
    assert model.backbone.strides == (16, 32, 32)
    assert model.pooled == [0, 1]
    model([torch.rand(3, 64, 96)])


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must give one map, got maps of strides \[8, 16\]"):
        create(
            "faster_rcnn",
            3,
            backbone={"name": "resnet10t", "out_indices": [2, 3]},
            fpn_channels=None,
        )
    with pytest.raises(ValueError, match="anchor_sizes must be 4 lists, one per level"):
        create("faster_rcnn", 3, backbone="resnet10t", anchor_sizes=[[32], [64]])
    with pytest.raises(ValueError, match="of one length"):
        create("faster_rcnn", 3, backbone="resnet10t", anchor_sizes=[[32], [64], [128], [9, 9]])
