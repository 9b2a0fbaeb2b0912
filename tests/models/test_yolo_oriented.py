"""YOLO with oriented boxes: it learns turned bars, and says their angles."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detcore.models import create
from detcore.ops import nms_rotated


@pytest.mark.parametrize("options", [{}, {"one_to_one": True}], ids=["nms", "one-to-one"])
def test_learns_turned_bars_by_heart(
    options: dict[str, Any],
    bars: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    images, targets = bars
    model = create("yolo", 3, image_size=128, oriented=True, **options)
    assert fit(model, images, targets, steps=120, lr=4e-3) < 0.06
    assert_all_found(model, images, targets)


def test_the_names_of_a_box_teach_alike(bars: tuple[list[Tensor], list[dict[str, Tensor]]]) -> None:
    """Sides exchanged and a quarter turn, or half a turn: the same box, the same losses."""
    images, targets = bars
    model = create("yolo", 3, image_size=128, oriented=True).train()
    model.backbone.eval()  # batch norms that don't move
    losses = model(images, targets)
    for other in (
        lambda b: torch.stack((b[:, 0], b[:, 1], b[:, 3], b[:, 2], b[:, 4] + 90), dim=1),
        lambda b: b + torch.tensor([0, 0, 0, 0, 180.0]),
    ):
        renamed = [{**t, "boxes": other(t["boxes"])} for t in targets]
        again = model(images, renamed)
        assert losses.keys() == again.keys()
        for name, value in losses.items():
            torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-4)


def test_what_comes_out_is_suppressed_by_the_oriented_iou() -> None:
    torch.manual_seed(0)
    model = create("yolo", 3, image_size=64, oriented=True, score_threshold=0.0).eval()
    with torch.no_grad():
        (found,) = model([torch.rand(3, 64, 64)])
    for label in (1, 2):
        boxes = found["boxes"][found["labels"] == label]
        scores = found["scores"][found["labels"] == label]
        assert len(boxes) > 3
        assert len(nms_rotated(boxes, scores, 0.6)) == len(boxes)


def test_boxes_come_back_through_unequal_ratios() -> None:
    """A picture whose sides are cut to whole pixels: 100 x 75 at 64 is 64 x 48, 90 x 77 not so."""
    torch.manual_seed(0)
    model = create("yolo", 3, image_size=64, oriented=True, score_threshold=0.0).eval()
    with torch.no_grad():
        found = model([torch.rand(3, 77, 90), torch.rand(3, 75, 100)])
    for one, (width, height) in zip(found, ((90, 77), (100, 75)), strict=True):
        assert one["boxes"].isfinite().all()
        assert (one["boxes"][:, 2:4] > 0).all()
        assert (one["boxes"][:, 0] < width).all() and (one["boxes"][:, 1] < height).all()
