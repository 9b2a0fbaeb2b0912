from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detcore.models import create
from detcore.models.cascade import Cascade


def test_learns_pictures_by_heart(
    scenes: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    model = create(
        "cascade",
        4,
        detector={"model": "yolo", "image_size": 128},
        classifier={"model": "classifier", "image_size": 32},
    )
    assert fit(model, *scenes, steps=100, lr=4e-3) < 0.05
    assert_all_found(model, *scenes)


def test_crops_are_the_boxes_with_their_margin() -> None:
    model = create("cascade", 3, classifier={"model": "classifier", "image_size": 16}, margin=0.5)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = torch.stack((x, y, x + y)) / 128
    (crop,) = model._crops([image], [torch.tensor([[20.0, 24, 28, 32]])])
    assert crop.shape == (3, 16, 16)
    # 8 pixels and 4 more on each side: one pixel of the crop is one of the image
    torch.testing.assert_close(crop, image[:, 20:36, 16:32], atol=1e-5, rtol=0)


def test_members_must_count_their_classes() -> None:
    detector, classifier = create("yolo", 3), create("classifier", 3)
    with pytest.raises(ValueError, match="must have 2 and 3 classes, got 3 and 3"):
        Cascade(4, detector=detector, classifier=classifier)


def test_nothing_found_is_nothing_named() -> None:
    model = create(
        "cascade", 4, detector={"model": "yolo", "image_size": 64, "score_threshold": 0.99}
    ).eval()
    with torch.no_grad():
        (found,) = model([torch.rand(3, 40, 50)])
    assert found["boxes"].shape == (0, 4)
    assert found["scores"].shape == found["labels"].shape == (0,)
    assert found["labels"].dtype == torch.int64
