"""Inputs from other people's training loops and settings."""

import pytest
import torch

from detcore.models import create

TINY = {"image_size": 64, "backbone": "test_resnet"}


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["ssd", "faster_rcnn", "yolo"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_target_boxes_of_other_dtypes(name, dtype):
    torch.manual_seed(0)
    model = create(name, 3, **TINY).train()
    images, boxes = [torch.rand(3, 64, 64)] * 2, torch.tensor([[4.0, 4, 30, 30]])
    found = []
    for given in (boxes, boxes.to(dtype)):
        torch.manual_seed(0)
        target = {"boxes": given, "labels": torch.tensor([1]), "sampling_seed": 1}
        found.append([float(v) for v in model(images, [target] * 2).values()])
    assert found[0] == pytest.approx(found[1], rel=1e-3)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(("oriented", "numbers"), [(False, 4), (True, 5)])
def test_no_proposal_is_no_box(oriented, numbers):
    model = create("faster_rcnn", 3, rpn_score_threshold=0.999, oriented=oriented, **TINY)
    # in training too there is nothing to learn from, and all weights have a gradient
    none = {"boxes": torch.zeros(0, numbers), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model([torch.zeros(3, 64, 64)] * 2, [none] * 2)
    sum(losses.values()).backward()
    assert all(v.isfinite() for v in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    (found,) = model.eval()([torch.zeros(3, 64, 64)])
    assert {k: list(v.shape) for k, v in found.items()} == {
        "boxes": [0, numbers],
        "labels": [0],
        "scores": [0],
    }
