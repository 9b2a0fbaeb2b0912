import pytest
import torch

from detcore.ops import decode_dense
from detcore.parts.anchors import grid_anchors
from detcore.parts.heads import BoxHead, ClassifierHead, RPNHead, SSDHead, YOLOHead, dense_to_rows


def test_dense_to_rows_runs_over_rows_columns_anchors() -> None:
    n, anchors, values, height, width = 2, 3, 5, 4, 7
    maps = torch.arange(n * anchors * values * height * width).view(n, -1, height, width)
    rows = dense_to_rows(maps, values)
    assert rows.shape == (n, height * width * anchors, values)
    for y, x, a, k in ((0, 0, 0, 0), (3, 6, 2, 4), (2, 5, 1, 3), (1, 0, 2, 0)):
        assert torch.equal(rows[:, (y * width + x) * anchors + a, k], maps[:, a * values + k, y, x])


def test_dense_to_rows_is_the_order_of_the_ops_and_of_the_anchors() -> None:
    cell = torch.tensor([[-4.0, -4, 4, 4], [-8, -2, 8, 2]])
    maps = torch.randn(2, 2 * 4, 3, 5)
    boxes, _ = decode_dense(maps, cell, 16)
    first_corner = grid_anchors(cell, (3, 5), 16)
    rows = dense_to_rows(maps, 4)
    width = first_corner[:, 2] - first_corner[:, 0]
    centre = (first_corner[:, 2] + first_corner[:, 0]) / 2 + rows[..., 0] * width
    torch.testing.assert_close((boxes[..., 0] + boxes[..., 2]) / 2, centre)


def test_dense_to_rows_refuses_channels_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match=r"must be \[N, A \* 4, H, W\], got \[1, 6, 2, 2\]"):
        dense_to_rows(torch.zeros(1, 6, 2, 2), 4)


def test_dense_to_rows_of_nothing() -> None:
    assert dense_to_rows(torch.zeros(0, 8, 2, 2), 4).shape == (0, 8, 4)
    assert dense_to_rows(torch.zeros(1, 8, 0, 2), 4).shape == (1, 0, 4)


def test_rpn_head() -> None:
    logits, deltas = RPNHead(16, 3)([torch.randn(2, 16, 4, 5), torch.randn(2, 16, 2, 3)])
    assert [m.shape for m in logits] == [(2, 3, 4, 5), (2, 3, 2, 3)]
    assert [m.shape for m in deltas] == [(2, 12, 4, 5), (2, 12, 2, 3)]


@pytest.mark.parametrize("width", [None, 32])
@pytest.mark.parametrize("num_classes", [2, 21])
def test_ssd_head_starts_at_the_background(num_classes: int, width: int | None) -> None:
    head = SSDHead((16, 8), (4, 6), num_classes, width=width)
    logits, deltas = head([torch.randn(2, 16, 4, 5), torch.randn(2, 8, 2, 3)])
    assert [m.shape[1] for m in logits] == [4 * num_classes, 6 * num_classes]
    assert [m.shape[1] for m in deltas] == [16, 24]
    background = dense_to_rows(logits[1], num_classes).softmax(-1)[..., 0]
    assert background.mean().item() == pytest.approx(0.99, abs=0.01)


def test_yolo_head_starts_with_squares_in_the_middle_of_their_cells() -> None:
    head = YOLOHead(16, 7, typical_size=3.0)
    (maps,) = head([torch.randn(2, 16, 4, 4)])
    assert maps.shape == (2, 4 + 1 + 7, 4, 4)
    boxes, scores = decode_dense(maps, None, 8, "grid")
    assert scores is not None
    assert scores.max() < 0.05
    torch.testing.assert_close(boxes[0, 0], torch.tensor([-8.0, -8, 16, 16]), atol=4, rtol=0)


@pytest.mark.parametrize("classes", [1, 7])
def test_yolo_head_with_anchors_starts_at_its_anchors(classes: int) -> None:
    anchors = torch.tensor([[20.0, 12], [8, 8], [10, 40]])
    head = YOLOHead(16, classes, anchors_per_cell=3)
    (maps,) = head([torch.randn(2, 16, 4, 4)])
    assert maps.shape == (2, 3 * (4 + 1 + classes), 4, 4)
    boxes, scores = decode_dense(maps, anchors, 8, "yolo")
    assert scores is not None
    assert scores.shape == (2, 4 * 4 * 3, classes)
    assert scores.max() < 0.05
    centre, size = anchors.new_tensor((12.0, 4.0)), boxes[0, 3:6, 2:] - boxes[0, 3:6, :2]
    torch.testing.assert_close(size, anchors, atol=0, rtol=0.5)
    torch.testing.assert_close(
        (boxes[0, 3:6, 2:] + boxes[0, 3:6, :2]) / 2, centre.expand(3, 2), atol=2, rtol=0
    )


def test_yolo_head_puts_each_number_where_decoding_reads_it() -> None:
    anchors, classes = 2, 3
    head = YOLOHead(16, classes, anchors_per_cell=anchors)
    for conv in (head.box, head.objectness, head.classes):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    torch.nn.init.constant_(head.box.bias[4 + 1 : 4 + 2], 1.0)  # anchor 1's y
    torch.nn.init.constant_(head.objectness.bias[1:], 2.0)
    torch.nn.init.constant_(head.classes.bias[classes + 2 :], 3.0)  # anchor 1's last class
    (maps,) = head([torch.randn(1, 16, 2, 2)])
    rows = dense_to_rows(maps, 5 + classes)[0, :2]
    assert rows.tolist() == [[0.0] * 8, [0, 1, 0, 0, 2, 0, 0, 3]]


def test_box_head_and_its_empty_input() -> None:
    head = BoxHead(8, 3, 5, width=16)
    for count in (4, 0):
        logits, deltas = head(torch.randn(count, 8, 3, 3))
        assert logits.shape == (count, 5)
        assert deltas.shape == (count, 20)


def test_classifier_head_pools_over_the_whole_map() -> None:
    head = ClassifierHead(8, 3, dropout=0.5).eval()
    x = torch.randn(2, 8, 4, 6)
    torch.testing.assert_close(head(x), head(x.flip(2, 3)))
    assert head(x).shape == (2, 3)
