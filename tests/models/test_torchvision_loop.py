"""A training loop for torchvision's detectors works with ours without changes."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from .test_contract import small


def train_one_epoch(
    model: nn.Module, batches: Iterable[tuple[Any, Any]], device: torch.device
) -> list[float]:
    """The loop of torchvision's references: target tensors on a device, a dict of losses."""
    model.train()
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9
    )
    seen = []
    for images, targets in batches:
        images = [image.to(device) for image in images]
        targets = [
            {k: v.to(device) if isinstance(v, Tensor) else v for k, v in t.items()} for t in targets
        ]
        loss_dict = model(images, targets)
        losses = sum(loss for loss in loss_dict.values())
        seen.append(losses.item())
        optimizer.zero_grad()
        losses.backward()
        optimizer.step()
    return seen


@torch.inference_mode()
def evaluate(model: nn.Module, batches: Iterable[tuple[Any, Any]]) -> dict[int, dict[str, Tensor]]:
    model.eval()
    found: dict[int, dict[str, Tensor]] = {}
    for images, targets in batches:
        outputs = [{k: v.to("cpu") for k, v in t.items()} for t in model(list(images))]
        found |= {t["image_id"]: o for t, o in zip(targets, outputs, strict=True)}
    return found


def batches() -> list[tuple[tuple[Tensor, ...], tuple[dict[str, Any], ...]]]:
    def target(number: int) -> dict[str, Any]:
        boxes = torch.tensor([[5.0, 5, 60, 50], [20, 10, 80, 70]])
        return {
            "boxes": boxes,
            "labels": torch.tensor([1, 2]),
            "image_id": number,
            "area": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
            "iscrowd": torch.zeros(2, dtype=torch.int64),
        }

    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 80, 100, generator=generator) for _ in range(4)]
    return [(tuple(images[i : i + 2]), (target(i), target(i + 1))) for i in (0, 2)]


@pytest.mark.parametrize("name", ["torchvision", "faster_rcnn", "ssd", "yolo", "cascade"])
def test_train_and_evaluate(name: str) -> None:
    theirs = name == "torchvision"
    model = (
        ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
        if theirs
        else small(name, 3)
    )
    losses = [v for _ in range(3) for v in train_one_epoch(model, batches(), torch.device("cpu"))]
    assert losses[-1] < losses[0]
    found = evaluate(model, batches())
    assert sorted(found) == [0, 1, 2, 3]
    for one in found.values():
        assert {"boxes", "scores", "labels"} <= set(one)
