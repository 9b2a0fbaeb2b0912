import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from detcore.ops import decode_dense
from detcore.parts.anchors import cell_anchors, centred, default_boxes, grid_anchors


@pytest.mark.parametrize("sizes", [(32.0,), (16.0, 23.7, 64.0)])
@pytest.mark.parametrize("ratios", [(1.0,), (0.5, 1.0, 2.0)])
def test_rounded_cell_anchors_are_torchvisions(
    sizes: tuple[float, ...], ratios: tuple[float, ...]
) -> None:
    theirs = AnchorGenerator((sizes,), (ratios,)).cell_anchors[0]
    assert torch.equal(cell_anchors(sizes, ratios, rounded=True), theirs)


def test_grid_anchors_are_torchvisions_level_by_level() -> None:
    sizes, ratios = ((32,), (64,)), ((0.5, 1.0, 2.0),) * 2
    maps = [torch.zeros(1, 1, 12, 20), torch.zeros(1, 1, 6, 10)]
    images = ImageList(torch.zeros(1, 3, 96, 160), [(96, 160)])
    (theirs,) = AnchorGenerator(sizes, ratios)(images, maps)
    ours = [
        grid_anchors(cell_anchors(s, r, rounded=True), (m.shape[2], m.shape[3]), stride)
        for s, r, m, stride in zip(sizes, ratios, maps, (8, 16), strict=True)
    ]
    assert torch.equal(torch.cat(ours), theirs)


def test_default_boxes_are_torchvisions() -> None:
    generator = DefaultBoxGenerator(
        [[2], [2, 3]], scales=[0.1, 0.3, 0.6], steps=[8, 16], clip=False
    )
    maps = [torch.zeros(1, 1, 20, 20), torch.zeros(1, 1, 10, 10)]
    images = ImageList(torch.zeros(1, 3, 160, 160), [(160, 160)])
    (theirs,) = generator(images, maps)
    levels = [(default_boxes(16, 48, [2]), 20, 8), (default_boxes(48, 96, [2, 3]), 10, 16)]
    ours = [grid_anchors(centred(a, s), (n, n), s) for a, n, s in levels]
    torch.testing.assert_close(torch.cat(ours), theirs, atol=1e-3, rtol=0)


def test_grid_anchors_are_where_decode_dense_puts_them() -> None:
    cell = centred(cell_anchors((20, 33), (0.5, 2)), (8, 12))
    boxes, _ = decode_dense(torch.zeros(1, 4 * 4, 3, 5), cell, (8.0, 12.0))
    torch.testing.assert_close(boxes[0], grid_anchors(cell, (3, 5), (8, 12)))


def test_the_middle_of_a_cell_that_is_no_square() -> None:
    """A stride is (y, x), a box is x before y."""
    box = torch.tensor([[-1.0, -2, 1, 2]])
    assert centred(box, (8, 12)).tolist() == [[5, 2, 7, 6]]
    assert centred(box, 8).tolist() == [[3, 2, 5, 6]]


def test_grid_of_no_cells_or_no_anchors() -> None:
    assert grid_anchors(cell_anchors((8,)), (0, 4), 8).shape == (0, 4)
    assert grid_anchors(torch.zeros(0, 4), (3, 4), 8).shape == (0, 4)


def test_senseless_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sizes must be positive, got \[0\]"):
        cell_anchors((0,))
    with pytest.raises(ValueError, match=r"aspect_ratios must be positive, got \[-1.0\]"):
        cell_anchors((8,), (-1.0,))
