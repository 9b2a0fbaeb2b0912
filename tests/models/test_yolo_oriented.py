"""YOLO with oriented boxes: it learns turned bars, and says their angles."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detcore.models import create
from detcore.ops import box_iou, nms_rotated

# label, centre x and y, width, height (pixels), degrees; some near the seams of other codings
BARS = [
    [(1, 40, 40, 56, 16, 88.0), (2, 92, 84, 48, 20, -88.0)],
    [(1, 36, 90, 52, 18, 44.0), (2, 90, 40, 56, 16, 47.0)],
    [(2, 64, 64, 64, 20, 0.0)],
]


@pytest.fixture
def bars() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images, targets = [], []
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    generator = torch.Generator().manual_seed(0)
    for rows in BARS:
        image = 0.4 + 0.1 * torch.rand(3, 128, 128, generator=generator)
        for label, cx, cy, width, height, degrees in rows:
            turn = torch.deg2rad(torch.tensor(degrees))
            # counter-clockwise as the image is seen, y down
            along = (x - cx) * turn.cos() - (y - cy) * turn.sin()
            across = (x - cx) * turn.sin() + (y - cy) * turn.cos()
            inside = (along.abs() < width / 2) & (across.abs() < height / 2)
            image[:, inside] = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])[label - 1][:, None]
        images.append(image)
        boxes = torch.tensor([row[1:] for row in rows])
        targets.append({"boxes": boxes, "labels": torch.tensor([row[0] for row in rows])})
    return images, targets


@pytest.mark.parametrize("options", [{}, {"one_to_one": True}], ids=["nms", "one-to-one"])
def test_learns_turned_bars_by_heart(
    options: dict[str, Any],
    bars: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
) -> None:
    images, targets = bars
    model = create("yolo", 3, image_size=128, oriented=True, **options)
    assert fit(model, images, targets, steps=120, lr=4e-3) < 0.06
    model.eval()
    with torch.no_grad():
        detections = model(images)
    for found, target in zip(detections, targets, strict=True):
        sure = found["scores"] > 0.5
        boxes, labels = found["boxes"][sure], found["labels"][sure]
        assert len(boxes) == len(target["boxes"])
        iou, which = box_iou(target["boxes"], boxes, fmt="cxcywhr").max(dim=1)
        assert iou.min() > 0.8
        assert torch.equal(labels[which], target["labels"])
        turn = (boxes[which, 4] - target["boxes"][:, 4]) % 180
        assert torch.minimum(turn, 180 - turn).max() < 4


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
