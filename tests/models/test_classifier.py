from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

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


def scored(model: nn.Module, scores: list[float]) -> dict[str, Tensor]:
    """The result if the head returns these scores for any picture."""
    logits = torch.tensor([scores])
    logits = logits.logit() if model.multilabel else logits.log()
    model.head = Fixed(logits)
    with torch.no_grad():
        (found,) = model.eval()([torch.rand(3, 20, 30)])
    return found


class Fixed(nn.Module):
    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out = out

    def forward(self, features: Tensor) -> Tensor:
        return self.out


def test_the_best_classes_come_in_order() -> None:
    scores = [0.1, 0.2, 0.4, 0.2, 0.1]
    for k, labels in ((1, [2]), (3, [2, 1, 3]), (5, [2, 1, 3, 0, 4])):
        found = scored(create("classifier", 5, top_k=k, image_size=32), scores)
        assert found["labels"].tolist() == labels
        assert found["labels"].dtype == torch.int64
        torch.testing.assert_close(found["scores"], torch.tensor(scores))
    model = create("classifier", 5, image_size=32)
    model.top_k = 2  # as in a trained model
    assert scored(model, scores)["labels"].tolist() == [2, 1]


def test_thresholds_are_one_for_all_or_one_a_class() -> None:
    scores = [0.9, 0.2, 0.6]
    for threshold, labels in (
        (0.5, [0, 2]),
        (0.95, []),
        ([0.95, 0.1, 0.5], [1, 2]),
        ([1.0, 1.0, 0.0], [2]),
    ):
        model = create("classifier", 3, multilabel=True, score_threshold=threshold, image_size=32)
        found = scored(model, scores)
        assert found["labels"].tolist() == labels
        assert found["labels"].dtype == torch.int64
        torch.testing.assert_close(found["scores"], torch.tensor(scores))
        assert model.config["score_threshold"] == threshold


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"top_k": 4}, r"top_k must be in 1..3, got 4"),
        ({"top_k": 0}, r"top_k must be in 1..3, got 0"),
        ({"top_k": 2, "multilabel": True}, r"with multilabel .* top_k must be 1, got 2"),
        ({"score_threshold": [0.5, 0.5]}, r"one number or one of each of 3 classes, got 2"),
        ({"score_threshold": 1.5}, r"score_threshold must be in 0..1, got 1.5"),
        ({"score_threshold": [0, 0.5, -1.0]}, r"score_threshold\[2\] must be in 0..1, got -1.0"),
        ({"score_threshold": float("nan")}, r"score_threshold must be in 0..1, got nan"),
    ],
)
def test_bad_top_k_and_thresholds_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        create("classifier", 3, **options)
    model = create("classifier", 3, multilabel=options.pop("multilabel", False))
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=text):
        setattr(model, name, value)
