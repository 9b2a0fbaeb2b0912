from typing import Any

import pytest
import torch

from detcore.parts.input_checks import (
    check_box_targets,
    check_class_targets,
    check_classes,
    check_images,
)

IMAGES = [torch.rand(3, 8, 8)] * 2
GOOD = {"boxes": torch.tensor([[1.0, 2, 5, 6]]), "labels": torch.tensor([2])}
NONE = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def test_good_targets_pass() -> None:
    check_images(IMAGES)
    check_box_targets(IMAGES, [GOOD, NONE], 3)
    check_box_targets(IMAGES, [NONE, NONE], 3)
    check_classes(2)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (
            [torch.rand(3, 8, 8), torch.rand(1, 8, 8)],
            r"images\[1\] must be \[3, H, W\], got \[1, 8",
        ),
        ([torch.rand(3, 0, 8)], r"must be \[3, H, W\], got \[3, 0, 8\]"),
        ([torch.zeros(3, 8, 8, dtype=torch.uint8)], "floating point in 0..1, got torch.uint8"),
        (torch.rand(3, 8, 8), r"a list of \[C, H, W\], got a tensor \[3, 8, 8\]"),
        (["photo.jpg"], r"images\[0\] must be a tensor, got str"),
    ],
)
def test_bad_images(images: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_images(images)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ({**GOOD, "boxes": torch.zeros(1, 5)}, r"boxes must be \[n, 4\], got \[1, 5\]"),
        ({**GOOD, "boxes": torch.zeros(4)}, r"boxes must be \[n, 4\], got \[4\]"),
        ({**GOOD, "boxes": torch.zeros(0)}, r"boxes must be \[n, 4\], got \[0\]"),
        ({**GOOD, "boxes": torch.tensor([[1, 2, 3, 4]])}, "floating point, got torch.int64"),
        ({**GOOD, "boxes": torch.tensor([[1, 2, 3, float("nan")]])}, r"finite, got \[1.0, 2.0, 3"),
        ({**GOOD, "boxes": torch.tensor([[1, 2, 3, float("inf")]])}, "must be finite"),
        ({**GOOD, "boxes": torch.tensor([[5.0, 2, 1, 6]])}, r"x2 > x1 and y2 > y1 \(xyxy\), got"),
        ({**GOOD, "boxes": torch.tensor([[1.0, 2, 1, 6]])}, "x2 > x1"),
        ({**GOOD, "labels": torch.tensor([0])}, r"in 1..2 \(0 is the background\), got 0"),
        ({**GOOD, "labels": torch.tensor([3])}, r"in 1..2 .*, got 3"),
        ({**GOOD, "labels": torch.tensor([1, 2])}, r"labels must be \[1\], one per box, got \[2\]"),
        ({**GOOD, "labels": torch.tensor([1.0])}, "labels must be int64, got torch.float32"),
        ({"boxes": GOOD["boxes"]}, r"labels must be a tensor, got keys \['boxes'\]"),
        ({**GOOD, "boxes": [[1, 2, 3, 4]]}, "boxes must be a tensor, got list"),
        ([1], r"targets\[1\] must be a dict, got list"),
    ],
)
def test_bad_box_targets(target: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text) as error:
        check_box_targets(IMAGES, [GOOD, target], 3)
    assert "targets[1]" in str(error.value)


@pytest.mark.parametrize(
    ("images", "targets", "text"),
    [
        (IMAGES, None, "targets must be given in training, got None"),
        (IMAGES, [GOOD], "one dict an image: 2, got 1"),
        ([], [], "at least one image in training, got 0"),
    ],
)
def test_bad_lists(images: Any, targets: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_box_targets(images, targets, 3)
    with pytest.raises(ValueError, match=text):
        check_class_targets(images, targets, 3, multilabel=False)


def test_class_targets_become_one_tensor() -> None:
    labels = [{"label": torch.tensor(0)}, {"label": 2}]
    assert check_class_targets(IMAGES, labels, 3, multilabel=False).tolist() == [0, 2]
    hot = [{"labels": torch.tensor([1, 0, 1])}, {"labels": torch.zeros(3)}]
    assert check_class_targets(IMAGES, hot, 3, multilabel=True).tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("target", "multilabel", "text"),
    [
        ({"label": torch.tensor(3)}, False, r"targets\[1\]: label must be in 0..2, got 3"),
        ({"label": torch.tensor(-1)}, False, "in 0..2, got -1"),
        ({"label": torch.tensor([0, 1])}, False, r"label must be a scalar, got \[2\]"),
        ({"label": torch.tensor(1.0)}, False, "label must be int64, got torch.float32"),
        ({"labels": torch.tensor(1)}, False, r"label must be a tensor, got keys \['labels'\]"),
        ({"labels": torch.zeros(2)}, True, r"labels must be \[3\] of 0 and 1, got \[2\]"),
        ({"labels": torch.tensor([0, 2, 1])}, True, "of 0 and 1, got other values"),
    ],
)
def test_bad_class_targets(target: Any, multilabel: bool, text: str) -> None:
    good = {"labels": torch.zeros(3)} if multilabel else {"label": torch.tensor(0)}
    with pytest.raises(ValueError, match=text):
        check_class_targets(IMAGES, [good, target], 3, multilabel=multilabel)


def test_a_detector_needs_a_class_beside_the_background() -> None:
    with pytest.raises(ValueError, match=r"num_classes must be at least 2, .* got 1"):
        check_classes(1)
