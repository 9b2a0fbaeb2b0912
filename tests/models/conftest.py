"""Pictures that a model can memorize: coloured shapes, drawn here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detcore.ops import box_iou
from detcore.parts.box_forms import format_of

Scenes = tuple[list[Tensor], list[dict[str, Tensor]]]

# per picture: (height, width), and its shapes as label, x1, y1, x2, y2 in pixels
_SCENES: list[tuple[tuple[int, int], list[tuple[int, ...]]]] = [
    ((96, 128), [(1, 10, 12, 42, 44), (2, 70, 30, 118, 80)]),
    ((128, 96), [(3, 20, 60, 76, 116), (1, 50, 8, 82, 40)]),
    ((128, 128), [(2, 8, 8, 40, 64), (3, 60, 70, 92, 102), (1, 80, 10, 120, 50)]),
    ((100, 120), []),
]
# label, centre x and y, width, height (pixels), degrees; some near the seams of other codings
_BARS = [
    [(1, 40, 40, 56, 16, 88.0), (2, 92, 84, 48, 20, -88.0)],
    [(1, 36, 90, 52, 18, 44.0), (2, 90, 40, 56, 16, 47.0)],
    [(2, 64, 64, 64, 20, 0.0)],
]
_COLOURS = ((0.9, 0.1, 0.1), (0.1, 0.8, 0.2), (0.2, 0.2, 1.0))


@pytest.fixture(autouse=True)
def seeded(one_thread: None) -> None:
    torch.manual_seed(0)


@pytest.fixture
def scenes() -> Scenes:
    """Three pictures with one to three shapes, and one without any. Classes 1..3."""
    generator = torch.Generator().manual_seed(0)
    images, targets = [], []
    for (height, width), shapes in _SCENES:
        image = 0.5 + 0.1 * torch.rand(3, height, width, generator=generator)
        for label, x1, y1, x2, y2 in shapes:
            _draw(image[:, y1:y2, x1:x2], label)
        images.append(image)
        boxes = torch.tensor([s[1:] for s in shapes], dtype=torch.float32).view(-1, 4)
        labels = torch.tensor([s[0] for s in shapes], dtype=torch.int64)
        targets.append({"boxes": boxes, "labels": labels})
    return images, targets


@pytest.fixture
def fit() -> Callable[..., float]:
    """Train until the loss is below a share of the first, or steps run out; return the share."""

    def train(
        model: nn.Module,
        images: list[Tensor],
        targets: list[dict[str, Any]],
        *,
        steps: int,
        lr: float = 1e-3,
        below: float = 0.05,
    ) -> float:
        model.train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=lr / 20)
        first = share = 0.0
        for _ in range(steps):
            loss = sum(model(images, targets).values())
            assert isinstance(loss, Tensor)
            assert loss.isfinite()
            first = first or loss.item()
            share = loss.item() / first
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        return share

    return train


@pytest.fixture
def assert_all_found() -> Callable[..., None]:
    """Every box is found with its label, and there is no other sure detection.

    An upright box is found at IoU 0.75, a turned one at 0.8 and within 4 degrees.
    """

    def check(model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]) -> None:
        model.eval()
        with torch.no_grad():
            detections = model(images)
        for found, target in zip(detections, targets, strict=True):
            sure = found["scores"] > 0.5
            boxes, labels = found["boxes"][sure], found["labels"][sure]
            assert len(boxes) == len(target["boxes"])
            if len(boxes) == 0:
                continue
            iou, which = box_iou(target["boxes"], boxes, fmt=format_of(boxes)).max(dim=1)
            assert torch.equal(labels[which], target["labels"])
            if boxes.shape[1] == 4:
                assert iou.min() > 0.75
                continue
            assert iou.min() > 0.8
            turn = (boxes[which, 4] - target["boxes"][:, 4]) % 180
            assert torch.minimum(turn, 180 - turn).max() < 4

    return check


@pytest.fixture
def bars() -> Scenes:
    """Bars of two classes, turned by different angles; targets are boxes [n, 5]."""
    images, targets = [], []
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    generator = torch.Generator().manual_seed(0)
    for rows in _BARS:
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


def _draw(patch: Tensor, label: int) -> None:
    """1: a filled square; 2: a frame; 3: a disc; each in the colour of its class."""
    height, width = patch.shape[-2:]
    y = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width)[None, :].expand(height, width)
    edge = torch.maximum(x.abs(), y.abs())
    mask = {1: edge <= 1, 2: edge > 0.5, 3: x**2 + y**2 <= 1}[label]
    colour = torch.tensor(_COLOURS[label - 1])[:, None]
    patch[:, mask] = colour
