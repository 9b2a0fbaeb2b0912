"""The memory traffic that the kernels' headers state, counted in the simulator.

A sector is 32 bytes. A warp with contiguous accesses touches as many as its bytes fill.
"""

from typing import Any

import pytest
import torch

from detcore.ops.samples import random_boxes_3d

from ..ops.conftest import SIMT, counted, random_boxes

pytestmark = [
    pytest.mark.simt,
    pytest.mark.skipif(SIMT is None, reason="the simulator is not built: make test"),
]
SECTOR = 32


def _rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def _native() -> Any:
    assert SIMT is not None
    return SIMT


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_box_iou_writes_whole_sectors_by_16_bytes(kind: str) -> None:
    n, m = 37, 512
    with counted() as counts:
        _native().box_iou(
            random_boxes(n).float(), random_boxes(m, seed=1).float(), "xyxy", kind, 1e-7
        )
    assert counts["store_sectors"] == n * m * 4 // SECTOR
    assert counts["global_stores"] == n * m * 4 // 16 // 32


def test_box_iou_rows_that_begin_anywhere_are_still_written_side_by_side() -> None:
    n, m = 16, 255
    with counted() as counts:
        _native().box_iou(
            random_boxes(n).float(), random_boxes(m, seed=1).float(), "xyxy", "iou", 1e-7
        )
    # a warp's 128 bytes that begin between sectors touch five of them
    assert counts["store_sectors"] <= 5 / 4 * n * m * 4 / SECTOR


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_roi_align_channels_last_moves_16_bytes_a_thread(dtype: torch.dtype) -> None:
    maps = _rand(1, 64, 30, 30).to(dtype).contiguous(memory_format=torch.channels_last)
    rois = torch.tensor([[0, 2.0, 3, 20, 25], [0, 5, 5, 12, 9]])
    with counted() as counts:
        out = _native().roi_align(maps, rois, 1.0, 7, 7, 2, False)
    out_bytes = out.numel() * out.element_size()
    assert counts["store_sectors"] == out_bytes / SECTOR
    stores = out_bytes / 16 / 32
    assert stores <= counts["global_stores"] <= 1.35 * stores  # the last of each block is part
    # samples share pixels, and each pixel is read once per bin: at most 16 for 4 samples
    assert counts["load_bytes"] <= 16 * out_bytes + 1e5


def test_roi_align_gradient_writes_each_element_once() -> None:
    grad, rois = _rand(3, 32, 7, 7), torch.tensor([[0, 2.0, 3, 20, 25]] * 3)
    for channels_last in (False, True):
        with counted() as counts:
            out = _native().roi_align_backward(
                grad, rois, 1.0, 7, 7, 2, False, [1, 32, 32, 40], channels_last
            )
        assert counts["store_bytes"] == out.numel() * 4
        assert counts["int_atomics"] == counts["float_atomics"] == 0


# 64 bytes of scores per cell are written at a time: whole sectors if a cell has a multiple of 32
@pytest.mark.parametrize(("classes", "most"), [(1, 1.0), (20, 1.4), (80, 1.0)])
@pytest.mark.parametrize("anchors", [1, 3, 9])
def test_decode_dense_is_coalesced_on_both_sides(anchors: int, classes: int, most: float) -> None:
    height, width = 16, 16
    maps = _rand(1, anchors * (5 + classes), height, width)
    settings = [8.0, 8.0, 1.0, 1.0, 1.0, 1.0, 4.0, 1.0, -1.0, 1.0]
    with counted() as counts:
        boxes, scores = _native().decode_dense(maps, _rand(anchors, 2) * 50, "yolo", settings)
    written = (boxes.numel() + scores.numel()) * 4
    assert counts["store_bytes"] == written
    assert counts["store_sectors"] <= most * written / SECTOR
    # a cell's anchor, two doubles, is read too; 9 x 16 cells have 160 threads, and idle threads
    # read the first cell
    read = maps.numel() * 4 + anchors * height * width * 16
    idle = 160 / 144 if anchors == 9 else 1
    assert counts["load_bytes"] == read * idle
    assert counts["load_sectors"] <= 1.3 * read * idle / SECTOR


def test_nms_moves_bytes_in_proportion_to_its_boxes() -> None:
    """At constant density, with more boxes than one block handles."""
    moved = []
    for n in (2100, 4200):
        boxes, scores = random_boxes(n, 12 * n**0.5, 40).float(), _rand(n)
        with counted() as counts:
            _native().nms(boxes, scores, 0.5)
        moved.append(counts["load_bytes"] + counts["store_bytes"])
        assert counts["launches"] == 6
    assert moved[1] < 2.2 * moved[0]


def test_one_launch_serves_boxes_of_many_classes() -> None:
    boxes, ids = random_boxes(1000, 1000, 100).float(), torch.arange(1000) % 80
    with counted() as counts:
        _native().batched_nms(boxes, _rand(1000), ids, 0.5)
    assert (counts["launches"], counts["blocks"]) == (1, 1)


def test_match_boxes_sees_each_anchor_twice_and_no_matrix() -> None:
    m, n = 20, 5000
    with counted() as counts:
        _native().match_boxes(random_boxes(m).float(), random_boxes(n).float(), None, None)
    # anchors, as 16 of 64 bytes per thread; again those of shares that contain a best; and ground
    # truths and bests once per share, each with its own 32-byte sector
    shares = -(-n // 512)
    assert counts["load_sectors"] * SECTOR < 2 * 16 * n + m * 512 * 16 + 3 * 32 * m * 4 * shares
    assert counts["store_bytes"] < 13 * n + 16 * m * (shares + 2)


def test_points_in_boxes_reads_each_box_once_per_block_and_counts_by_votes() -> None:
    points, boxes = 1024, 64
    cloud = _rand(points, 3) * torch.tensor([120.0, 120.0, 40.0])
    with counted() as counts:
        held = _native().points_in_boxes(cloud, random_boxes_3d(boxes, 100, 20).float())[1].sum()
    assert counts["launches"] == 2 and counts["float_atomics"] == 0
    assert 0 < counts["int_atomics"] < held  # a warp's points in one box are one
    blocks = points // 256
    # measured boxes are 56 bytes; three numbers of a warp's points are 12 sectors, touched thrice
    most = boxes * 28 + blocks * boxes * 56 + 3 * points * 12
    assert counts["load_sectors"] * SECTOR < 1.6 * most
    assert _lanes(counts) > 16


def _lanes(counts: dict[str, int]) -> float:
    return counts["step_lanes"] / counts["steps"]


def test_lanes_of_a_warp_go_side_by_side() -> None:
    """The cost of leaving a loop early: see CONTRIBUTING, "CUDA kernels".

    The host's compiler branches where a device's would select, so these are lower bounds.
    """
    native = _native()
    with counted() as counts:
        native.box_iou(
            random_boxes(64, 1000, 100).float(),
            random_boxes(1024, 1000, 100, 1).float(),
            "xyxy",
            "iou",
            1e-7,
        )
    assert _lanes(counts) > 28
    with counted() as counts:
        native.nms(random_boxes(1024, 1000, 100).float(), _rand(1024), 0.5)
    assert _lanes(counts) > 12
    rois = torch.cat((torch.zeros(16, 1), random_boxes(16, 500, 300).float()), 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        maps = _rand(1, 16, 50, 68).contiguous(memory_format=layout)
        for ratio, least in ((1, 30), (2, 20)):
            with counted() as counts:
                native.roi_align(maps, rois, 1 / 16, 7, 7, ratio, True)
            assert _lanes(counts) > least
        with counted() as counts:
            native.roi_align_backward(
                _rand(16, 16, 7, 7),
                rois,
                1 / 16,
                7,
                7,
                2,
                True,
                [1, 16, 50, 68],
                layout is torch.channels_last,
            )
        assert _lanes(counts) > 20
