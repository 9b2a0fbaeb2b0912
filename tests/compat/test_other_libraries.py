"""The tables of docs/howto/swap_imports.md: each row's arithmetic, on values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from detcore import ops

A = torch.tensor([[0.0, 0, 10, 10], [0, 0, 4, 4]])
B = torch.tensor([[5.0, 0, 15, 10], [20, 20, 30, 30]])


def equal(got: Tensor, want: list) -> None:
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float32))


def test_rows_of_mmcv() -> None:
    """nms in rows with scores; overlaps aligned and not; half pixels; the focal loss's order."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    keep = ops.nms(boxes, scores, 0.5)  # IoU of the first two: 90 / 100
    rows = torch.cat((boxes[keep], scores[keep, None]), dim=1)
    equal(rows, [[0.0, 0, 10, 9, 0.9], [20, 0, 30, 10, 0.7]])
    assert keep.tolist() == [1, 2]
    classes = torch.tensor([0, 1, 0])
    assert ops.batched_nms(boxes, scores, classes, 0.5).tolist() == [1, 2, 0]
    equal(ops.box_iou(A, B), [[50 / 150, 0.0], [0.0, 0.0]])
    equal(ops.paired_box_iou(A, B, eps=0), [50 / 150, 0.0])
    index, lowered = ops.soft_nms(boxes, scores, 0.3)
    assert index.tolist() == [1, 2, 0]
    equal(lowered, [0.9, 0.7, 0.5 * (1 - 0.9)])
    # a pixel's value is its column; the box's centre lies at 3, so at 2.5 with half pixels
    ramp = torch.arange(8.0).expand(1, 1, 8, 8)
    box = torch.tensor([[0.0, 2, 2, 4, 4]])
    assert ops.RoIAlign(1, 1.0, 2, aligned=True)(ramp, box).item() == 2.5
    assert ops.RoIAlign(1, 1.0, 2)(ramp, box).item() == 3.0
    # probability 1/2 of a positive: 0.25 * (1/2)^2 * ln 2
    loss = ops.sigmoid_focal_loss(torch.zeros(1), torch.ones(1), 0.25, 2.0)
    equal(loss, [0.25 * 0.25 * np.log(2).item()])


def test_rows_of_detectron2() -> None:
    """Deltas: weights multiply when coding; the anchors come second in ours."""
    anchors = torch.tensor([[0.0, 0, 10, 10]])
    boxes = torch.tensor([[5.0, 0, 15, 10]])
    deltas = ops.encode_boxes(boxes, anchors, (10.0, 10.0, 5.0, 5.0))
    equal(deltas, [[5.0, 0, 0, 0]])
    equal(ops.decode_boxes(deltas, anchors, (10.0, 10.0, 5.0, 5.0)), [[5.0, 0, 15, 10]])
    matches = ops.match_boxes(A[:1], B)
    assert matches.gt_of_anchor.tolist() == [0, 0]
    equal(matches.iou_of_anchor, [50 / 150, 0.0])
    assert ops.box_iou(A[:1] * 0, A[:1] * 0).isnan().all()
    # a box of 112 x 112 belongs to level 3, which pools ones from a map of twos
    fine, coarse = torch.ones(1, 1, 32, 32), torch.full((1, 1, 16, 16), 2.0)
    regions = [torch.tensor([[0.0, 0, 112, 112], [0, 0, 30, 30]])]
    pooled = ops.multiscale_roi_align([fine, coarse], regions, 1, [1 / 4, 1 / 8], 2, aligned=True)
    assert pooled.flatten().tolist() == [2.0, 1.0]


def test_rows_of_ultralytics() -> None:
    """Centres in their "xywh"; a batch's raw output suppressed."""
    centred = torch.tensor([[5.0, 5, 10, 4]])
    equal(ops.box_convert(centred, "cxcywh", "xyxy"), [[0.0, 3, 10, 7]])
    equal(ops.box_convert(torch.tensor([[0.0, 3, 10, 7]]), "xyxy", "cxcywh"), [[5.0, 5, 10, 4]])
    equal(ops.box_convert(torch.tensor([[0.0, 3, 10, 7]]), "xyxy", "xywh"), [[0.0, 3, 10, 4]])
    # 20 of 180 in common; the hull is 20 x 10; the centres are 10 apart
    other = torch.tensor([[8.0, 0, 20, 10]])
    iou, hull = 20 / 200, 200
    diou = iou - 81 / (20**2 + 10**2)
    v = 4 / np.pi**2 * (np.arctan(10 / 10) - np.arctan(12 / 10)) ** 2
    equal(ops.paired_box_iou(A[:1], other, "giou"), [iou - (hull - 200) / hull])
    equal(ops.paired_box_iou(A[:1], other, "diou"), [diou])
    equal(ops.paired_box_iou(A[:1], other, "ciou"), [diou - v / (1 - iou + v) * v])
    below = torch.tensor([[20.0, 10, 30, 20]])  # the hull is 30 x 20
    equal(ops.paired_box_iou(A[:1], below, "giou"), [-(600 - 200) / 600])
    equal(ops.clip_boxes_to_image(torch.tensor([[-1.0, 2, 9, 50]]), (40, 8)), [[0.0, 2, 8, 40]])
    # a DFL head that is sure of one stride to each side, of two bins
    sure = torch.zeros(1, 4 * 2 + 1, 1, 1)
    sure[:, 1:8:2] = 100.0
    equal(ops.decode_dense(sure, None, 8, "dfl", bins=2)[0], [[[-4.0, -4, 12, 12]]])
    output = torch.zeros(1, 4 + 2, 3)
    output[0, :4] = torch.tensor([[5.0, 5, 10, 10], [5, 5, 10, 9], [25, 5, 10, 10]]).mT
    output[0, 4:] = torch.tensor([[0.5, 0.0], [0.9, 0.3], [0.1, 0.7]]).mT
    boxes = ops.box_convert(output[:, :4].mT, "cxcywh", "xyxy")
    found, scores, labels, counts = ops.multiclass_nms(
        boxes, output[:, 4:].mT, 0.25, 0.45, max_per_image=300
    )
    assert counts.tolist() == [3] and labels[0, :3].tolist() == [0, 1, 1]
    equal(scores[0, :3], [0.9, 0.7, 0.3])
    equal(found[0, :2], [[0.0, 0.5, 10, 9.5], [20, 0, 30, 10]])


def test_rows_of_supervision() -> None:
    """Against the library, which the tests install."""
    sv = pytest.importorskip("supervision")
    g = np.random.default_rng(0)
    low = g.integers(0, 50, (40, 2))
    boxes = np.hstack((low, low + g.integers(5, 40, (40, 2)))).astype(np.float32)
    scores = g.permutation(40).astype(np.float32) / 40
    classes = g.integers(0, 3, 40)
    np.testing.assert_allclose(
        ops.box_iou(boxes, boxes[:9]), sv.box_iou_batch(boxes, boxes[:9]), rtol=1e-5
    )
    for rows, ours in (
        (np.c_[boxes, scores], ops.nms(boxes, scores, 0.4)),
        (np.c_[boxes, scores, classes], ops.batched_nms(boxes, scores, classes, 0.4)),
    ):
        theirs = sv.box_non_max_suppression(rows, iou_threshold=0.4)
        assert sorted(ours) == np.flatnonzero(theirs).tolist()
    sized = sv.xyxy_to_xywh(boxes)
    np.testing.assert_array_equal(ops.box_convert(boxes, "xyxy", "xywh"), sized)
    np.testing.assert_array_equal(ops.box_convert(sized, "xywh", "xyxy"), sv.xywh_to_xyxy(sized))
    np.testing.assert_array_equal(
        ops.clip_boxes_to_image(boxes, (40, 60)), sv.clip_boxes(boxes, (60, 40))
    )
    masks = g.random((5, 20, 30)) > 0.98
    np.testing.assert_array_equal(ops.masks_to_boxes(masks), sv.mask_to_xyxy(masks))


# --- angles of rotated boxes ----------------------------------------------------------------------
ROOT3 = 3**0.5
CLOCKWISE = {  # radians, as the image is seen: the ends of the width and the height of a 4 x 2 box
    math.pi / 6: ((2 * ROOT3, 2.0), (-1.0, ROOT3)),
    -math.pi / 3: ((2.0, -2 * ROOT3), (ROOT3, 1.0)),
    3 * math.pi / 4: ((-(8**0.5), 8**0.5), (-(2**0.5), -(2**0.5))),
}


@pytest.mark.parametrize("angle", CLOCKWISE)
@pytest.mark.parametrize(
    ("library", "theirs", "factor"),
    [
        ("mmcv, mmrotate and Ultralytics: radians, clockwise", 1.0, -180 / math.pi),
        ("mmcv with clockwise=False", -1.0, 180 / math.pi),
        ("detectron2 and torchvision: degrees, counter-clockwise", -180 / math.pi, 1.0),
    ],
)
def test_angles_of_other_libraries(library, theirs, factor, angle):
    given = angle * theirs  # the angle as that library has it
    (wx, wy), (hx, hy) = CLOCKWISE[angle]
    left, top = 10 - (wx + hx) / 2, 20 - (wy + hy) / 2
    corners = [left, top, left + wx, top + wy, left + wx + hx, top + wy + hy, left + hx, top + hy]
    ours = torch.tensor([10.0, 20, 4, 2, given * factor])
    got = ops.box_convert(ours, "cxcywhr", "xyxyxyxy")
    torch.testing.assert_close(got, torch.tensor(corners), rtol=0, atol=1e-5)
