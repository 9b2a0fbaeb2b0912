"""Faster R-CNN with oriented boxes: it learns turned bars, near squares too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detcore.models import MultiTask, create
from detcore.ops import box_iou, nms_rotated
from detcore.parts.backbones import as_backbone
from detcore.parts.box_forms import enclosing

from .test_contract import BACKBONE, IMAGES, TARGETS, fitting, small

Bars = tuple[list[Tensor], list[dict[str, Tensor]]]
FEW = {"image_size": 128, "oriented": True, "proposals": 50, "box_samples": 32}


def test_learns_turned_bars_by_heart(
    bars: Bars, fit: Callable[..., float], assert_all_found: Callable[..., None]
) -> None:
    model = create("faster_rcnn", 3, **FEW)
    assert fit(model, *bars, steps=200) < 0.05
    assert_all_found(model, *bars)


def renamed(boxes: Tensor) -> Tensor:
    """Sides exchanged and a quarter turn: the same boxes."""
    return torch.stack((boxes[:, 0], boxes[:, 1], boxes[:, 3], boxes[:, 2], boxes[:, 4] + 90), 1)


@pytest.mark.parametrize("other", [renamed, lambda b: b + torch.tensor([0, 0, 0, 0, 180.0])])
def test_the_names_of_a_box_teach_alike(bars: Bars, other: Callable[[Tensor], Tensor]) -> None:
    images, targets = bars
    model = create("faster_rcnn", 3, **FEW).train()
    model.backbone.eval()  # batch norms that don't move
    model.neck.eval()
    targets = [{**t, "sampling_seed": 1} for t in targets]
    given = [{**t, "boxes": other(t["boxes"])} for t in targets]
    losses = model(images, targets)
    for name, value in model(images, given).items():
        torch.testing.assert_close(value, losses[name], rtol=1e-3, atol=1e-4)


def test_both_steps_learn_squares_whose_angle_has_no_first_name(
    fit: Callable[..., float],
) -> None:
    """Squares and near squares at 44, 46, 89 and -89 degrees: found as squares, at their angle."""
    rows = [
        [(64, 64, 50, 50, 44.0)],
        [(64, 64, 50, 48, 46.0)],
        [(60, 66, 48, 50, 89.0)],
        [(66, 60, 50, 48, -89.0)],
    ]
    images, targets = [], []
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    generator = torch.Generator().manual_seed(0)
    for ((cx, cy, width, height, degrees),) in rows:
        image = 0.4 + 0.1 * torch.rand(3, 128, 128, generator=generator)
        turn = torch.deg2rad(torch.tensor(degrees))
        along = (x - cx) * turn.cos() - (y - cy) * turn.sin()
        across = (x - cx) * turn.sin() + (y - cy) * turn.cos()
        image[:, (along.abs() < width / 2) & (across.abs() < height / 2)] = 1.0
        images.append(image)
        boxes = torch.tensor([[cx, cy, width, height, degrees]])
        targets.append({"boxes": boxes, "labels": torch.ones(1, dtype=torch.int64)})
    model = create("faster_rcnn", 2, **FEW)
    fit(model, images, targets, steps=150)
    model.eval()
    with torch.no_grad():
        detections = model(images)
    for found, target in zip(detections, targets, strict=True):
        sure = found["boxes"][found["scores"] > 0.5]
        assert len(sure) == 1
        assert box_iou(sure, target["boxes"], fmt="cxcywhr").item() > 0.85
        quarter = (sure[0, 4] - target["boxes"][0, 4]) % 90
        assert min(quarter, 90 - quarter) < 5


def test_what_comes_out_is_suppressed_by_the_oriented_iou() -> None:
    model = small("faster_rcnn_oriented", score_threshold=0.0, max_detections=300).eval()
    with torch.no_grad():
        (found,) = model(IMAGES[:1])
    for label in (1, 2, 3):
        own = found["labels"] == label
        assert own.sum() > 3
        kept = nms_rotated(found["boxes"][own], found["scores"][own], 0.5)
        # brought to the picture's pixels, whose ratios differ by less than a percent
        assert len(kept) >= own.sum() - 2


def test_the_rpn_learns_the_upright_boxes_around() -> None:
    oriented, upright = small("faster_rcnn_oriented").train(), small("faster_rcnn").train()
    turned = [{**t, "sampling_seed": 3} for t in fitting("oriented", TARGETS)]
    for name in ("backbone", "neck", "rpn_head"):
        getattr(upright, name).load_state_dict(getattr(oriented, name).state_dict())
    around = [{**t, "boxes": enclosing(t["boxes"])} for t in turned]
    # of the model's own size: nothing is stretched, which would turn boxes a little
    images = [torch.rand(3, 96, 96) for _ in IMAGES]
    ours, theirs = oriented(images, turned), upright(images, around)
    for name in ("loss_rpn_objectness", "loss_rpn_box"):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)


def test_with_a_classifier_beside_it() -> None:
    backbone = as_backbone(BACKBONE, (8, 16, 32))
    detector = small("faster_rcnn_oriented", backbone=backbone)
    model = MultiTask(detector, create("classifier", 5, backbone=backbone, image_size=96)).train()
    targets = [{**t, "label": torch.tensor(i)} for i, t in enumerate(fitting("oriented", TARGETS))]
    losses = model(IMAGES, targets)
    assert {"loss_region_angle", "loss_image_class"} <= losses.keys()
    with torch.no_grad():
        found = model.eval()(IMAGES)
    assert all(one["boxes"].shape[1] == 5 and "image_labels" in one for one in found)


def test_a_cascade_refuses_an_oriented_detector() -> None:
    for model in ("faster_rcnn_oriented", "yolo_oriented"):
        detector = small(model, 2)
        with pytest.raises(ValueError, match=r"Cascade: .* must find upright boxes, got one with"):
            create("cascade", 4, detector=detector)
