import pytest
import torch

from detcore.ops import box_iou, decode_dense
from detcore.parts.assignment.anchor_shape import AnchorAssigner

ANCHORS = [[[10.0, 14], [20, 12]], [[32, 40], [60, 30]]]
STRIDES = (8, 16)
SIZES = [(8, 10), (4, 5)]  # maps of a batch with height 64 and width 80
COUNT = 2 * (8 * 10 + 4 * 5)

Box = list[float]


def random_boxes(n: int, generator: torch.Generator) -> torch.Tensor:
    centre = torch.rand(n, 2, generator=generator) * torch.tensor([84.0, 68.0]) - 2
    half = 2 + torch.rand(n, 2, generator=generator) * 30
    return torch.cat((centre - half, centre + half), dim=1)


def shape_iou(width: float, height: float, anchor: Box) -> float:
    inter = min(width, anchor[0]) * min(height, anchor[1])
    return inter / (width * height + anchor[0] * anchor[1] - inter)


def row_at(level: int, gt: Box, anchor: int) -> int:
    """The index of a level's anchor in the cell that contains the centre of the box."""
    height, width = SIZES[level]
    column = int(min(max((gt[0] + gt[2]) / 2 // STRIDES[level], 0), width - 1))
    line = int(min(max((gt[1] + gt[3]) / 2 // STRIDES[level], 0), height - 1))
    before = sum(h * w * len(a) for (h, w), a in zip(SIZES[:level], ANCHORS[:level], strict=True))
    return before + (line * width + column) * len(ANCHORS[level]) + anchor


def slowly(
    boxes: torch.Tensor, gt_boxes: torch.Tensor, threshold: float = 0.213, ignored: float = 0.7
) -> tuple[list[int], list[float]]:
    """The same rule, written as loops."""
    asked: dict[int, list[tuple[float, int]]] = {}
    for m, gt in enumerate(gt_boxes.tolist()):
        width, height = gt[2] - gt[0], gt[3] - gt[1]
        fits = [
            (shape_iou(width, height, shape), level, a)
            for level, shapes in enumerate(ANCHORS)
            for a, shape in enumerate(shapes)
        ]
        best = max(fits, key=lambda fit: fit[0])
        for fit in fits:
            if fit[0] >= threshold or fit is best:
                asked.setdefault(row_at(fit[1], gt, fit[2]), []).append((-fit[0], m))
    iou = box_iou(boxes, gt_boxes)
    match, quality = [], []
    for row in range(len(boxes)):
        if row in asked:
            match.append(min(asked[row])[1])
            quality.append(float(iou[row, match[-1]]))
        else:
            match.append(-2 if bool((iou[row] > ignored).any()) else -1)
            quality.append(0.0)
    return match, quality


@pytest.mark.parametrize("seed", range(12))
def test_the_rule(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    gt = random_boxes(1 + 3 * seed, generator)
    boxes = random_boxes(COUNT, generator)
    boxes[::3] = gt[torch.arange(len(boxes[::3])) % len(gt)] + 0.7
    match, quality = AnchorAssigner(ANCHORS, STRIDES)(boxes, gt, SIZES)
    want_match, want_quality = slowly(boxes, gt)
    assert match.tolist() == want_match
    torch.testing.assert_close(quality, torch.tensor(want_quality))
    assert {-1, -2, 0} <= set(match.tolist())


def test_a_shape_that_no_anchor_fits_gets_its_best_one() -> None:
    gt = torch.tensor([[4.0, 4, 6, 6]])
    boxes = torch.zeros(COUNT, 4)
    match, _ = AnchorAssigner(ANCHORS, STRIDES)(boxes, gt, SIZES)
    assert torch.where(match == 0)[0].tolist() == [row_at(0, gt[0].tolist(), 0)]
    match, _ = AnchorAssigner(ANCHORS, STRIDES, shape_iou=0.01)(boxes, gt, SIZES)
    assert int((match == 0).sum()) == 2  # too small for the coarser level's shapes


def test_a_contested_anchor_goes_to_the_better_shape_then_to_the_first() -> None:
    assigner = AnchorAssigner([[[16.0, 16]]], (32,))
    boxes = torch.zeros(1, 4)
    worse, exact = [8.0, 8, 26, 24], [8.0, 8, 24, 24]
    for gt, winner in (([worse, exact], 1), ([exact, worse], 0), ([worse, exact, exact], 1)):
        match, _ = assigner(boxes, torch.tensor(gt), [(1, 1)])
        assert match.tolist() == [winner]


@pytest.mark.parametrize("scale_xy", [1.0, 1.2])
def test_the_encoded_target_of_an_assigned_anchor_decodes_to_the_ground_truth(
    scale_xy: float,
) -> None:
    generator = torch.Generator().manual_seed(5)
    gt = random_boxes(12, generator).clamp(min=1)
    gt[:, 2:] = (gt[:, 2:]).minimum(torch.tensor([79.0, 63.0])).maximum(gt[:, :2] + 1)
    assigner = AnchorAssigner(ANCHORS, STRIDES)
    match, _ = assigner(torch.zeros(COUNT, 4), gt, SIZES)
    assert int((match >= 0).sum()) >= len(gt)
    first = 0
    for (height, width), stride, anchors in zip(SIZES, STRIDES, assigner.anchors, strict=True):
        maps = torch.zeros(1, len(anchors) * 6, height, width)
        rows = torch.arange(height * width * len(anchors))
        own = match[first + rows]
        for row in torch.where(own >= 0)[0].tolist():
            cell, a = divmod(row, len(anchors))
            y, x = divmod(cell, width)
            box = gt[own[row]]
            place = (box[:2] + box[2:]) / 2 / stride - torch.tensor([x, y])
            t = ((place + (scale_xy - 1) / 2) / scale_xy).logit()
            size = ((box[2:] - box[:2]) / anchors[a]).log()
            maps[0, a * 6 : a * 6 + 4, y, x] = torch.cat((t, size))
        boxes, _ = decode_dense(maps, anchors, stride, "yolo", scale_xy=scale_xy)
        torch.testing.assert_close(boxes[0, own >= 0], gt[own[own >= 0]], atol=1e-3, rtol=1e-4)
        first += len(rows)


def test_nothing_there_and_no_numbers() -> None:
    assigner = AnchorAssigner(ANCHORS, STRIDES)
    match, quality = assigner(torch.rand(COUNT, 4), torch.zeros(0, 4), SIZES)
    assert (match == -1).all()
    assert (quality == 0).all()
    gt = torch.tensor([[10.0, 10, 40, 50]])
    match, quality = assigner(torch.full((COUNT, 4), float("nan")), gt, SIZES)
    assert (match >= -1).all() and (match == 0).any()
    assert (quality == 0).all()


def test_bad_arguments_are_refused() -> None:
    for anchors, text in (
        (ANCHORS[:1], "anchors must be 2 lists, one per level, .*, got 1 lists"),
        ([ANCHORS[0], []], r"of positive \[width, height\] in pixels, got \[\] at level 1"),
        ([ANCHORS[0], [[3.0, 0.0]]], r"got \[\[3.0, 0.0\]\] at level 1"),
        ([ANCHORS[0], [[3.0, float("nan")]]], r"got \[\[3.0, nan\]\] at level 1"),
        ([ANCHORS[0], [[3.0]]], r"got \[\[3.0\]\] at level 1"),
        ([ANCHORS[0], [[3.0, 4.0], [5.0]]], r"got \[\[3.0, 4.0\], \[5.0\]\] at level 1"),
        ([[3.0, 4.0], [5.0, 6.0]], r"got \[3.0, 4.0\] at level 0"),
    ):
        with pytest.raises(ValueError, match=text):
            AnchorAssigner(anchors, STRIDES)
    with pytest.raises(ValueError, match=r"boxes must be \[200, 4\] .*, got \[7, 4\]"):
        AnchorAssigner(ANCHORS, STRIDES)(torch.zeros(7, 4), torch.zeros(0, 4), SIZES)
