from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from detcore.models import create
from detcore.models.cascade import Cascade
from detcore.ops import roi_align


@pytest.mark.parametrize("multilabel", [False, True])
def test_learns_pictures_by_heart(
    multilabel: bool,
    scenes: tuple[list[Tensor], list[dict[str, Tensor]]],
    fit: Callable[..., float],
    assert_all_found: Callable[..., None],
) -> None:
    model = create(
        "cascade",
        4,
        detector={"model": "yolo", "image_size": 128},
        classifier={"model": "classifier", "image_size": 32, "multilabel": multilabel},
    )
    assert fit(model, *scenes, steps=100, lr=4e-3) < 0.05
    assert_all_found(model, *scenes)


def detected(*rows: tuple[list[float], float, int]) -> dict[str, Tensor]:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ([], [], [])
    return {
        "boxes": torch.tensor(boxes).view(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


class Found(nn.Module):
    """A detector of 91 classes that always returns the same detections."""

    num_classes = 91

    def __init__(self, *answers: dict[str, Tensor]) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        return [dict(answer) for answer in self.answers]


class Brightness(nn.Module):
    """The scores of a crop are the means of its channels. Counts the crops of each call."""

    num_classes, image_size = 3, 8

    def __init__(self, *, multilabel: bool = False) -> None:
        super().__init__()
        self.multilabel = multilabel
        self.calls: list[int] = []

    def forward(self, crops: list[Tensor]) -> list[dict[str, Tensor]]:
        self.calls.append(len(crops))
        named = [crop.mean(dim=(1, 2)) for crop in crops]
        return [{"scores": s, "labels": (s > 0.5).nonzero()[:, 0]} for s in named]


def test_crops_are_the_boxes_with_their_margin() -> None:
    model = create("cascade", 3, classifier={"model": "classifier", "image_size": 16}, margin=0.5)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    image = torch.stack((x, y, x + y)) / 128
    ((crop,),) = model._crops([image], [torch.tensor([[20.0, 24, 28, 32]])], 1)
    assert crop.shape == (3, 16, 16)
    # 8 pixels and a margin of 4 on each side: a pixel of the crop is a pixel of the image
    torch.testing.assert_close(crop, image[:, 20:36, 16:32], atol=1e-5, rtol=0)
    # the margin ends at the border of the image: 10 pixels of 16 wide, 16 high
    ((crop,),) = model._crops([image], [torch.tensor([[58.0, 24, 66, 32]])], 1)
    expected = roi_align(image[None], [torch.tensor([[54.0, 20, 64, 36]])], 16, aligned=True)[0]
    torch.testing.assert_close(crop, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_crops_are_the_same_whatever_lies_beside_their_image(at_once: int) -> None:
    model = create("cascade", 3, classifier={"model": "classifier", "image_size": 16})
    # the value 2 must not be in a crop of another image; sizes differ along each side
    sizes = ((40, 90), (70, 30), (70, 90), (1, 1), (39, 89))
    images = [
        torch.full((3, *size), 2.0) if i == 2 else torch.rand(3, *size)
        for i, size in enumerate(sizes)
    ]
    boxes = []
    for height, width in sizes:
        corners = torch.rand(4, 2, 2) * torch.tensor([width, height])
        whole = torch.tensor([[0.0, 0, width, height]])
        corner = torch.tensor([[width - 0.75, height - 0.75, width, height]])
        boxes.append(torch.cat((torch.cat((corners.amin(1), corners.amax(1)), 1), whole, corner)))
    boxes[4] = boxes[4][:0]
    together = [crop for some in model._crops(images, boxes, at_once) for crop in some]
    alone = [
        crop
        for image, box in zip(images, boxes, strict=True)
        for some in model._crops([image], [box], len(box) or 1)
        for crop in some
    ]
    assert len(together) == len(alone) == 24
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert max(float(crop.max()) for crop in together[:12] + together[18:]) <= 1


@pytest.mark.parametrize("multilabel", [False, True])
def test_what_the_detector_and_the_classifier_said_is_handed_on(multilabel: bool) -> None:
    image = torch.full((3, 40, 60), 0.1)
    image[0, :, :20], image[2, :, 20:40], image[1, :, 40:] = 0.5, 0.9, 1.0
    rows = [([2.0, 2, 18, 18], 0.9, 90), ([22.0, 2, 38, 30], 0.8, 7), ([42.0, 2, 58, 9], 0.3, 7)]
    classifier = Brightness(multilabel=multilabel)
    model = Cascade(4, detector=Found(detected(*rows)), classifier=classifier, margin=0.0).eval()
    (found,) = model([image])
    order = [1, 0, 2]  # 0.8 * 0.9, 0.9 * 0.5, 0.3 * 1
    torch.testing.assert_close(found["scores"], torch.tensor([0.72, 0.45, 0.3]))
    assert found["labels"].tolist() == [3, 1, 2]
    for name, part in (("boxes", 0), ("box_scores", 1), ("box_labels", 2)):
        assert torch.equal(found[name], torch.tensor([rows[k][part] for k in order])), name
    crop_scores = torch.tensor([[0.1, 0.1, 0.9], [0.5, 0.1, 0.1], [0.1, 1.0, 0.1]])
    torch.testing.assert_close(found["crop_scores"], crop_scores)


def test_only_some_images_have_detections_and_crops_come_in_chunks() -> None:
    row = ([1.0, 1, 9, 9], 0.5, 1)
    answers = [detected(), detected(*[row] * 5), detected(), detected(row, row), detected()]
    images = [torch.full((3, 12, 10 + i), i / 8) for i in range(5)]
    classifier = Brightness()
    model = Cascade(4, detector=Found(*answers), classifier=classifier, crop_batch=3).eval()
    found = model(images)
    assert classifier.calls == [3, 3, 1]
    assert [len(one["boxes"]) for one in found] == [0, 5, 0, 2, 0]
    for one, number in zip(found, range(5), strict=True):
        assert one["crop_scores"].shape == (len(one["boxes"]), 3)
        assert one["crop_scores"].dtype == torch.float32
        torch.testing.assert_close(
            one["crop_scores"], torch.full_like(one["crop_scores"], number / 8)
        )
        assert {k: v.shape[:1] for k, v in one.items()} == dict.fromkeys(one, one["scores"].shape)


def test_no_image_is_no_answer() -> None:
    # a detector that can't handle an empty list is not called
    model = Cascade(4, detector=Found(detected()), classifier=Brightness()).eval()
    assert model([]) == []


def test_members_must_count_their_classes() -> None:
    detector, classifier = create("yolo", 3), create("classifier", 3)
    with pytest.raises(ValueError, match="classifier must have 4 classes, got 3"):
        Cascade(5, detector=detector, classifier=classifier)
    with pytest.raises(ValueError, match="crop_batch must be at least 1, got 0"):
        Cascade(4, detector=detector, classifier=classifier, crop_batch=0)
    model = Cascade(4, detector=detector, classifier=classifier)
    target = {"boxes": torch.tensor([[1.0, 1, 30, 30]]), "labels": torch.tensor([3])}
    with pytest.raises(ValueError, match=r"in training the detector must have 2 classes.* got 3"):
        model.train()([torch.rand(3, 64, 64)], [target])
    with torch.no_grad():
        model.eval()([torch.rand(3, 64, 64)])


def test_a_member_that_cannot_be_rebuilt_is_named() -> None:
    model = Cascade(4, detector=Found(detected()), classifier=create("classifier", 3))
    with pytest.raises(ValueError, match=r"detector of a cascade must be a name.* got None"):
        create(**model.config)
    again = create(**{**model.config, "detector": model.detector})
    assert again.config == model.config
