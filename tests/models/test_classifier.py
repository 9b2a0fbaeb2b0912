from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detcore.models import create

Scenes = tuple[list[Tensor], list[dict[str, Tensor]]]


def crops(scenes: Scenes) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    images, targets = [], []
    for image, target in zip(*scenes, strict=True):
        for box, label in zip(target["boxes"].int().tolist(), target["labels"], strict=True):
            x1, y1, x2, y2 = box
            images.append(image[:, y1:y2, x1:x2])
            targets.append({"label": label - 1})
    return images, targets


def test_learns_pictures_by_heart(scenes: Scenes, fit: Callable[..., float]) -> None:
    images, targets = crops(scenes)
    model = create("classifier", 3, image_size=64)
    assert fit(model, images, targets, steps=40) < 0.05
    model.eval()
    with torch.no_grad():
        found = model(images)
    for one, target in zip(found, targets, strict=True):
        assert one["labels"].tolist() == [int(target["label"])]
        assert one["scores"].shape == (3,)
        assert one["scores"].sum().item() == pytest.approx(1)


def test_learns_several_labels_a_picture(scenes: Scenes, fit: Callable[..., float]) -> None:
    images, boxes = scenes
    targets = [
        {"labels": torch.zeros(3).index_fill_(0, target["labels"] - 1, 1)} for target in boxes
    ]
    model = create("classifier", 3, multilabel=True, image_size=64)
    assert fit(model, images, targets, steps=60) < 0.05
    model.eval()
    with torch.no_grad():
        found = model(images)
    for one, target in zip(found, targets, strict=True):
        assert one["labels"].tolist() == torch.where(target["labels"] > 0)[0].tolist()


def test_bad_targets_are_refused() -> None:
    images = [torch.rand(3, 20, 30)]
    with pytest.raises(ValueError, match=r"label must be in 0..2, got 3"):
        create("classifier", 3).train()(images, [{"label": torch.tensor(3)}])
    with pytest.raises(ValueError, match=r"labels must be \[3\] of 0 and 1, got \[4\]"):
        create("classifier", 3, multilabel=True).train()(images, [{"labels": torch.zeros(4)}])
