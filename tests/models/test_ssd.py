from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detcore.models import create
from detcore.parts.anchors import grid_anchors


def test_learns_pictures_by_heart(
    scenes: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    model = create("ssd", 4, image_size=128)
    assert fit(model, *scenes, steps=60) < 0.05
    assert_all_found(model, *scenes)


def test_every_level_has_its_anchors_and_the_map_its_rows() -> None:
    model = create("ssd", 4, image_size=128, extra_levels=(32, 32)).eval()
    batch = model.preprocess([torch.zeros(3, 128, 128)])
    logits, deltas = model.predict(model.backbone(batch.images))
    levels = zip(logits, deltas, model.anchors(logits, batch), model.strides, strict=True)
    for m, d, (anchors, stride), nominal in levels:
        count = len(grid_anchors(anchors, (m.shape[2], m.shape[3]), stride))
        assert m[0].numel() == count * 4
        assert d[0].numel() == count * 4
        assert stride == (nominal, nominal)


def test_the_papers_two_sizes_have_the_papers_maps() -> None:
    """Liu et al., 2016: 38 to 1 cells at 300 pixels; torchvision's 512 variant also ends with 1."""
    vgg = {"name": "torchvision:vgg11", "layers": ["features.14", "features.19"]}
    further = [[256, 512, 3, 2], [128, 256, 3, 2], [128, 256, 3, 1], [128, 256, 3, 1]]
    for size, levels, cells in (
        (300, further, [38, 19, 10, 5, 3, 1]),
        (512, [*further, [128, 256, 4, 1]], [64, 32, 16, 8, 6, 4, 1]),
    ):
        options = {"image_size": size, "stretch": True, "vgg_top": 64, "norm": False}
        model = create("ssd", 3, backbone=vgg, extra_levels=levels, **options).eval()
        batch = model.preprocess([torch.rand(3, 40, 60)])
        with torch.no_grad():
            logits, _ = model.predict(model.backbone(batch.images))
        assert [m.shape[2] for m in logits] == cells


def test_ssdlite_learns_pictures_by_heart(
    scenes: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    model = create("ssd", 4, image_size=128, lite=True)
    assert fit(model, *scenes, steps=150, lr=4e-3) < 0.05
    assert_all_found(model, *scenes)


def test_what_does_not_go_together_is_refused() -> None:
    small = {"backbone": "resnet10t", "image_size": 64}
    with pytest.raises(ValueError, match=r"strides must be 4, one per level, got \[8, 16\]"):
        create("ssd", 3, strides=[8, 16], **small)
    with pytest.raises(ValueError, match=r"aspect_ratios must be of 4 levels, got 2 lists"):
        create("ssd", 3, aspect_ratios=[[2], [2, 3]], **small)
    with pytest.raises(ValueError, match=r"anchor_sizes must be 5, one per level and one more"):
        create("ssd", 3, anchor_sizes=[8, 16], **small)
