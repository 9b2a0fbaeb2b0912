import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.ssd import SSD as TorchvisionSSD

from detcore.parts.losses import (
    box_head_loss,
    classification_loss,
    hardest,
    rpn_loss,
    ssd_loss,
    yolo_loss,
)

EMPTY = torch.zeros(0, dtype=torch.int64)


def test_rpn_loss_is_torchvisions_formula() -> None:
    torch.manual_seed(0)
    logits, deltas, targets = torch.randn(50), torch.randn(50, 4), torch.randn(3, 4)
    positive, negative = torch.tensor([4, 7, 30]), torch.tensor([1, 2, 3, 40, 41])
    objectness, box = rpn_loss(logits, deltas, positive, negative, targets)
    both = torch.cat((positive, negative))
    label = torch.tensor([1.0] * 3 + [0.0] * 5)
    torch.testing.assert_close(objectness, F.binary_cross_entropy_with_logits(logits[both], label))
    torch.testing.assert_close(
        box, F.smooth_l1_loss(deltas[positive], targets, beta=1 / 9, reduction="sum") / 8
    )


def test_rpn_loss_without_samples_is_zero_with_a_gradient() -> None:
    logits = torch.randn(5, requires_grad=True)
    deltas = torch.randn(5, 4, requires_grad=True)
    objectness, box = rpn_loss(logits, deltas, EMPTY, EMPTY, torch.zeros(0, 4))
    (objectness + box).backward()
    assert objectness == 0
    assert box == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()
    assert deltas.grad is not None
    assert (deltas.grad == 0).all()


@pytest.mark.parametrize("positives", [0, 5, 12])
def test_box_head_loss_is_torchvisions(positives: int) -> None:
    torch.manual_seed(0)
    labels = torch.zeros(12, dtype=torch.int64)
    labels[:positives] = torch.randint(1, 6, (positives,))
    logits, deltas, targets = torch.randn(12, 6), torch.randn(12, 24), torch.randn(12, 4)
    ours = box_head_loss(logits, deltas, labels, targets)
    theirs = fastrcnn_loss(logits, deltas, [labels], [targets])
    torch.testing.assert_close(ours, theirs)


def test_box_head_loss_of_no_regions_is_zero() -> None:
    classes, box = box_head_loss(torch.zeros(0, 3), torch.zeros(0, 12), EMPTY, torch.zeros(0, 4))
    assert classes == 0
    assert box == 0


def test_ssd_loss_is_torchvisions() -> None:
    torch.manual_seed(0)
    batch, anchors, classes = 3, 60, 5
    gt = [torch.tensor([[2.0, 3, 20, 24], [30, 30, 44, 50]]), torch.tensor([[5.0, 5, 9, 9]])]
    gt.append(torch.zeros(0, 4))
    gt_labels = [torch.tensor([1, 4]), torch.tensor([2]), EMPTY]
    corner = torch.rand(anchors, 2) * 40
    anchor = torch.cat((corner, corner + 3 + torch.rand(anchors, 2) * 15), dim=1)
    matched = [torch.full((anchors,), -1) for _ in gt]
    matched[0][:5] = torch.tensor([0, 1, 1, 0, 1])
    matched[1][50:52] = 0

    theirs = TorchvisionSSD.__new__(TorchvisionSSD)
    torch.nn.Module.__init__(theirs)
    theirs.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    theirs.neg_to_pos_ratio = 3
    logits, deltas = torch.randn(batch, anchors, classes), torch.randn(batch, anchors, 4)
    wanted = theirs.compute_loss(
        [{"boxes": b, "labels": v} for b, v in zip(gt, gt_labels, strict=True)],
        {"bbox_regression": deltas, "cls_logits": logits},
        [anchor] * batch,
        matched,
    )

    labels, targets = torch.zeros(batch, anchors, dtype=torch.int64), torch.zeros_like(deltas)
    for i, match in enumerate(matched):
        own = match >= 0
        labels[i, own] = gt_labels[i][match[own]]
        targets[i, own] = theirs.box_coder.encode_single(gt[i][match[own]], anchor[own])
    got = ssd_loss(logits, deltas, labels, targets)
    torch.testing.assert_close(got[0], wanted["classification"])
    torch.testing.assert_close(got[1], wanted["bbox_regression"])


def test_ssd_loss_without_any_object_is_zero_and_finite() -> None:
    logits = torch.randn(2, 9, 3, requires_grad=True)
    deltas = torch.randn(2, 9, 4, requires_grad=True)
    labels = torch.zeros(2, 9, dtype=torch.int64)
    loss = sum(ssd_loss(logits, deltas, labels, torch.zeros(2, 9, 4)))
    assert isinstance(loss, torch.Tensor)
    assert loss == 0
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_hardest_takes_the_costliest_allowed_and_the_first_of_equals() -> None:
    cost = torch.tensor([[5.0, 1, 9, 2], [1, 1, 1, 1]])
    allowed = torch.tensor([[True, True, False, True], [True, True, True, True]])
    assert hardest(cost, allowed, torch.tensor([2, 3])).tolist() == [
        [True, False, False, True],
        [True, True, True, False],
    ]
    assert not hardest(cost, allowed, torch.tensor([0, 0])).any()
    assert torch.equal(hardest(cost, allowed, torch.tensor([99, 99])), allowed)


def test_yolo_loss_by_hand() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 20, 20], [1, 1, 2, 2]])
    objectness, classes = torch.tensor([0.0, 2.0, -1.0]), torch.tensor([[0.0, 1.0]] * 3)
    box, presence, naming = yolo_loss(
        boxes,
        objectness,
        classes,
        torch.tensor([[5.0, 5, 20, 20]]),
        torch.tensor([1]),
        torch.tensor([1]),
        torch.tensor([1.0]),
    )
    assert box.item() == pytest.approx(0, abs=1e-6)
    softplus = F.softplus(torch.tensor([0.0, -2.0, -1.0])).sum()
    torch.testing.assert_close(presence, softplus)
    torch.testing.assert_close(naming, F.softplus(torch.tensor([0.0, -1.0])).sum())


def test_yolo_loss_without_objects_teaches_absence_alone() -> None:
    boxes = torch.rand(6, 4, requires_grad=True)
    objectness = torch.zeros(6, requires_grad=True)
    classes = torch.zeros(6, 3, requires_grad=True)
    box, presence, naming = yolo_loss(
        boxes, objectness, classes, torch.zeros(0, 4), EMPTY, EMPTY, torch.zeros(0)
    )
    (box + presence + naming).backward()
    assert box == 0
    assert naming == 0
    assert presence > 0
    assert objectness.grad is not None
    assert (objectness.grad > 0).all()
    assert boxes.grad is not None
    assert (boxes.grad == 0).all()


def test_yolo_loss_teaches_the_ignored_no_objectness() -> None:
    """Anchors 0 to 3 are background, assigned with quality 0.6, ignored, background."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 9, 10], [5, 5, 6, 6]])
    objectness = torch.tensor([0.5, 1.0, 3.0, -2.0], requires_grad=True)
    box, presence, naming = yolo_loss(
        boxes,
        objectness,
        torch.zeros(4, 2),
        torch.tensor([[0.0, 0, 10, 10]]),
        torch.tensor([1]),
        torch.tensor([1]),
        torch.tensor([0.6]),
        torch.tensor([2]),
    )
    # CIoU: IoU 0.8; squared centre distance 1, diagonal 200; aspect (atan 1 - atan 10/8)^2 4 / pi^2
    aspect = 4 / math.pi**2 * (math.atan(1) - math.atan(10 / 8)) ** 2
    weight = aspect / (1 - 0.8 + aspect)
    assert box.item() == pytest.approx(1 - 0.8 + 1 / 200 + weight * aspect, abs=1e-5)
    # log(1 + e^x) for background; for the assigned one, cross entropy minus its minimum
    background = math.log1p(math.exp(0.5)) + math.log1p(math.exp(-2.0))
    assigned = math.log1p(math.exp(1.0)) - 0.6 * 1.0 + 0.6 * math.log(0.6) + 0.4 * math.log(0.4)
    assert presence.item() == pytest.approx(background + assigned, abs=1e-5)
    assert naming.item() == pytest.approx(2 * math.log(2), abs=1e-5)
    presence.backward()
    assert objectness.grad is not None
    assert objectness.grad[2] == 0
    assert (objectness.grad[[0, 3]] > 0).all()


def test_classification_loss_takes_indices_or_rows() -> None:
    logits = torch.randn(4, 3)
    labels = torch.tensor([0, 2, 1, 1])
    torch.testing.assert_close(classification_loss(logits, labels), F.cross_entropy(logits, labels))
    smooth = F.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(classification_loss(logits, labels, 0.1), smooth)
    hot = F.one_hot(labels, 3)
    torch.testing.assert_close(
        classification_loss(logits, hot), F.binary_cross_entropy_with_logits(logits, hot.float())
    )


def test_yolo_objectness_that_equals_the_quality_costs_nothing() -> None:
    quality = torch.tensor([0.3, 0.9])
    objectness = torch.cat((quality.logit(), torch.tensor([-30.0])))
    boxes = torch.tensor([[0.0, 0, 4, 4]]).repeat(3, 1)
    cells, labels = torch.tensor([0, 1]), torch.tensor([0, 0])
    _, presence, _ = yolo_loss(
        boxes, objectness, torch.zeros(3, 1), boxes[:2], labels, cells, quality
    )
    assert presence.item() == pytest.approx(0, abs=1e-6)
