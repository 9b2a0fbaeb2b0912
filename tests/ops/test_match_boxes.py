import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from detcore import ops, reference
from detcore.ops._native import _C

from .conftest import FLOATS, Backend, random_boxes
from .peers import detection, tv

SIZES = [(0, 0), (0, 3), (3, 0), (1, 1), (2, 63), (7, 64), (5, 65), (64, 127), (65, 129), (513, 7),
         (31, 1031), (520, 300)]  # fmt: skip


def same(got: ops.BoxMatches, want: tuple[Tensor, ...]) -> None:
    for name, ours, theirs in zip(got._fields, got, want, strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, name
        assert torch.equal(ours.cpu(), theirs), name


def grid_anchors(extent: int = 80, step: int = 4) -> Tensor:
    """An RPN's [n, 4]: nine shapes per cell, rows, then columns. Many overlap a box equally."""
    at = torch.arange(0.0, extent, step)
    y, x = torch.meshgrid(at, at, indexing="ij")
    shapes = torch.tensor([[-a, -b, a, b] for a in (4.0, 8, 16) for b in (4.0, 8, 16)])
    return (torch.stack((x, y, x, y), -1).reshape(-1, 1, 4) + shapes).reshape(-1, 4)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("m", "n"), SIZES)
def test_equals_reference(backend: Backend, m: int, n: int, dtype: torch.dtype) -> None:
    for seed, whole in ((0, False), (1, True)):
        gt = random_boxes(m, seed=seed, whole=whole).to(dtype)
        anchors = random_boxes(n, seed=seed + 10, whole=whole).to(dtype)
        want = reference.match_boxes(gt, anchors)
        same(ops.match_boxes(backend(gt), backend(anchors)), want)
        # not contiguous
        gt_t, anchors_t = (backend(b.t().contiguous()).t() for b in (gt, anchors))
        same(ops.match_boxes(gt_t, anchors_t), want)


@pytest.mark.parametrize("extent", [10.0, 100.0, 3000.0])
def test_equals_torchvision_over_many_chunks(backend: Backend, extent: float) -> None:
    n = 5000 if backend.simulated else 20_011
    gt, anchors = random_boxes(20, extent, 40).float(), random_boxes(n, extent, 40).float()
    got = ops.match_boxes(backend(gt), backend(anchors))
    iou = tv.box_iou(gt, anchors)
    assert torch.equal(got.iou_of_anchor.cpu(), iou.max(dim=0).values)
    assert torch.equal(got.gt_of_anchor.cpu(), iou.max(dim=0).indices)
    assert torch.equal(got.iou_of_gt.cpu(), iou.max(dim=1).values)
    assert torch.equal(got.anchor_of_gt.cpu(), iou.max(dim=1).indices)
    ties = (iou == iou.amax(dim=1, keepdim=True)).any(dim=0)
    assert torch.equal(got.is_best_for_some_gt.cpu(), ties)


def test_ious_are_box_ious_to_the_bit(backend: Backend) -> None:
    gt, anchors = random_boxes(9).float(), random_boxes(501).float()
    got = ops.match_boxes(backend(gt), backend(anchors))
    iou = ops.box_iou(backend(gt), backend(anchors))
    assert torch.equal(got.iou_of_anchor, iou.amax(dim=0))
    assert torch.equal(got.iou_of_gt, iou.amax(dim=1))


def test_grid_anchors_tie(backend: Backend) -> None:
    anchors = grid_anchors()
    gt = torch.tensor([[10.0, 10, 26, 28], [1, 1, 79, 79], [33, 41, 34, 42], [200, 200, 210, 220]])
    for boxes in (gt, gt[:3], gt[:1]):
        got = ops.match_boxes(backend(boxes), backend(anchors))
        same(got, reference.match_boxes(boxes, anchors))
    assert 1 < got.is_best_for_some_gt.sum() < 20
    # the flag marks the anchors that torchvision's rule restores
    iou = tv.box_iou(gt[:3], anchors)
    strict = detection._utils.Matcher(2.0, 2.0)(iou)
    restored = detection._utils.Matcher(2.0, 2.0, allow_low_quality_matches=True)(iou)
    got = ops.match_boxes(backend(gt[:3]), backend(anchors))
    assert torch.equal(got.is_best_for_some_gt.cpu(), strict != restored)


def test_all_equal_boxes_tie_and_the_lowest_index_wins(backend: Backend) -> None:
    box = torch.tensor([[2.0, 3, 9, 11]])
    got = ops.match_boxes(backend(box.repeat(3, 1)), backend(box.repeat(4500, 1)))
    assert got.gt_of_anchor.eq(0).all() and got.iou_of_anchor.eq(1).all()
    assert got.anchor_of_gt.tolist() == [0, 0, 0] and got.iou_of_gt.eq(1).all()
    assert got.is_best_for_some_gt.all()


def test_what_overlaps_nothing(backend: Backend) -> None:
    gt = torch.tensor([[0.0, 0, 1, 1], [50, 50, 60, 60]])
    anchors = torch.tensor([[100.0, 100, 110, 110], [50, 50, 60, 61], [1, 0, 2, 1]])
    got = ops.match_boxes(backend(gt), backend(anchors))
    assert got.gt_of_anchor.tolist() == [0, 1, 0]
    assert got.anchor_of_gt.tolist() == [0, 1]
    # the best IoU of the first ground truth is 0, so all anchors tie with it
    assert got.is_best_for_some_gt.tolist() == [True, True, True]
    assert ops.match_boxes(
        backend(gt[1:]), backend(anchors)
    ).is_best_for_some_gt.tolist() == [False, True, False]  # fmt: skip


def test_nothing_to_match(backend: Backend) -> None:
    some, none = random_boxes(3).float(), torch.zeros(0, 4)
    got = ops.match_boxes(backend(none), backend(some))
    assert got.gt_of_anchor.tolist() == [-1] * 3 and got.iou_of_anchor.tolist() == [0.0] * 3
    assert got.is_best_for_some_gt.tolist() == [False] * 3 and got.anchor_of_gt.shape == (0,)
    got = ops.match_boxes(backend(some), backend(none))
    assert got.anchor_of_gt.tolist() == [-1] * 3 and got.iou_of_gt.tolist() == [0.0] * 3


def test_nan_takes_no_part(backend: Backend) -> None:
    for coordinate in range(4):
        gt, anchors = random_boxes(6, 50).float(), random_boxes(300, 50).float()
        gt[[0, 3], coordinate] = math.nan
        anchors[[0, 17, 299], coordinate] = math.nan
        got = ops.match_boxes(backend(gt), backend(anchors))
        same(got, reference.match_boxes(gt, anchors))
        assert got.anchor_of_gt[[0, 3]].tolist() == [-1, -1]
        assert got.gt_of_anchor[[0, 17, 299]].tolist() == [-1, -1, -1]
        far = ops.match_boxes(backend(gt + 1000), backend(anchors))
        assert far.gt_of_anchor.tolist() == [-1 if i in (0, 17, 299) else 1 for i in range(300)]
        assert torch.equal(far.is_best_for_some_gt, far.gt_of_anchor >= 0)
    nothing = torch.full((5, 4), math.nan)
    for a, b in ((nothing, anchors), (gt, nothing), (nothing, nothing)):
        got = ops.match_boxes(backend(a), backend(b))
        same(got, reference.match_boxes(a, b))
        assert got.gt_of_anchor.eq(-1).all() and got.anchor_of_gt.eq(-1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    "scale", [1e-30, 1e-23, 1e-19, 1e18, 1e19, 1e30], ids=lambda s: f"sides around {s:g}"
)
def test_areas_that_underflow_and_overflow(
    backend: Backend, scale: float, dtype: torch.dtype
) -> None:
    gt, anchors = (random_boxes(n).mul(scale).to(dtype) for n in (9, 400))
    same(ops.match_boxes(backend(gt), backend(anchors)), reference.match_boxes(gt, anchors))


def test_odd_boxes(backend: Backend) -> None:
    proper = random_boxes(200, 50).float()
    odd = torch.cat((
        proper[:20, [0, 1, 0, 1]], proper[:20, [2, 3, 0, 1]], proper[:20, [2, 1, 0, 3]],
        torch.tensor([[0, 0, math.inf, 10], [-math.inf, -math.inf, math.inf, math.inf],
                      [math.inf, math.inf, -math.inf, -math.inf], [0.0, 0, 0, 0]]),
    ))  # fmt: skip
    for a, b in ((odd, proper), (proper, odd), (odd, odd), (odd, torch.cat((proper, odd)))):
        same(ops.match_boxes(backend(a), backend(b)), reference.match_boxes(a, b))


@pytest.mark.parametrize("seed", range(6))
def test_random_shapes(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for _ in range(8):
        m = int(torch.randint(0, 60, (1,), generator=g))
        n = int(torch.randint(0, 3000, (1,), generator=g))
        extent, side = (10 ** (torch.rand(2, generator=g) * 3)).tolist()
        gt = random_boxes(m, extent, side, seed, whole=bool(n % 2)).float()
        anchors = random_boxes(n, extent, side, seed + 1, whole=bool(n % 2)).float()
        same(ops.match_boxes(backend(gt), backend(anchors)), reference.match_boxes(gt, anchors))


def by_image(gt, anchors, gt_at, anchor_at=None) -> list[tuple[Tensor, ...]]:
    found = []
    for b in range(len(gt_at) - 1):
        own = anchors if anchor_at is None else anchors[anchor_at[b] : anchor_at[b + 1]]
        found.append(reference.match_boxes(gt[gt_at[b] : gt_at[b + 1]], own))
    return found


@pytest.mark.parametrize("n", [0, 1, 300, 4500])
def test_images_share_anchors(backend: Backend, n: int) -> None:
    gt_at = [0, 5, 5, 18, 19, 40]
    gt, anchors = random_boxes(40, 60).float(), random_boxes(n, 60).float()
    gt[12, 2] = math.nan
    got = ops.match_boxes(backend(gt), backend(anchors), backend(torch.tensor(gt_at)))
    each = list(zip(*by_image(gt, anchors, gt_at), strict=True))
    want = [torch.cat(p) if k in (2, 3) else torch.stack(p) for k, p in enumerate(each)]
    same(got, tuple(want))
    assert got.gt_of_anchor.shape == (5, n)


def test_images_with_anchors_of_their_own(backend: Backend) -> None:
    gt_at, anchor_at = [0, 5, 5, 18, 19, 40], [0, 2100, 2200, 2200, 2301, 4000]
    gt, anchors = random_boxes(40, 60).float(), random_boxes(4000, 60).float()
    offsets = backend(torch.tensor(gt_at)), backend(torch.tensor(anchor_at))
    got = ops.match_boxes(backend(gt), backend(anchors), *offsets)
    each = zip(*by_image(gt, anchors, gt_at, anchor_at), strict=True)
    same(got, tuple(torch.cat(p) for p in each))


def test_offsets_in_any_layout(backend: Backend) -> None:
    """Those of a column of a table, which has other numbers between them."""
    gt, anchors = backend(random_boxes(40, 60).float()), backend(random_boxes(400, 60).float())
    dense = [backend(torch.tensor(at)) for at in ([0, 5, 18, 40], [0, 100, 250, 400])]
    columns = [torch.stack((at, at.flip(0)), 1)[:, 0] for at in dense]
    assert not any(at.is_contiguous() for at in columns)
    for count in (1, 2):
        want = ops.match_boxes(gt, anchors, *dense[:count])
        same(ops.match_boxes(gt, anchors, *columns[:count]), tuple(x.cpu() for x in want))


def test_no_image_at_all(backend: Backend) -> None:
    none, offsets = backend(torch.zeros(0, 4)), backend(torch.tensor([0]))
    got = ops.match_boxes(none, backend(random_boxes(7).float()), offsets)
    assert got.gt_of_anchor.shape == (0, 7) and got.anchor_of_gt.shape == (0,)
    assert ops.match_boxes(none, none, offsets, offsets).iou_of_anchor.shape == (0,)


def test_more_ground_truths_than_a_block_or_the_images_average(backend: Backend) -> None:
    m, n = (700, 200) if backend.simulated else (1600, 700)
    gt, anchors = random_boxes(m, 30, 10).float(), random_boxes(n, 30, 10).float()
    same(ops.match_boxes(backend(gt), backend(anchors)), reference.match_boxes(gt, anchors))
    gt_at = backend(torch.tensor([0, m, m, m, m]))  # one image has all of them
    got = ops.match_boxes(backend(gt), backend(anchors), gt_at)
    assert torch.equal(got.gt_of_anchor[0].cpu(), reference.match_boxes(gt, anchors)[0])
    assert got.gt_of_anchor[1:].eq(-1).all()


def test_mixed_and_integer_boxes() -> None:
    gt, anchors = random_boxes(5, whole=True), random_boxes(90, whole=True)
    want = reference.match_boxes(gt.float(), anchors.float())
    same(ops.match_boxes(gt.long(), anchors.long()), want)
    same(ops.match_boxes(gt.half(), anchors.float()), want)
    same(ops.match_boxes(gt, anchors.float()), reference.match_boxes(gt, anchors))
    with pytest.raises(ValueError) as raised:
        ops.match_boxes(gt > 5, anchors)
    assert str(raised.value) == "match_boxes: gt must be real numbers, got bool"


def test_any_number_of_threads() -> None:
    gt, anchors = random_boxes(30, whole=True).float(), random_boxes(30_000, whole=True).float()
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(ops.match_boxes(gt, anchors))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        same(other, tuple(found[0]))


def test_arrays_keep_their_names() -> None:
    gt, anchors = random_boxes(3).float(), random_boxes(40).float()
    got = ops.match_boxes(gt.numpy(), anchors.numpy(), np.array([0, 1, 3]))
    want = ops.match_boxes(gt, anchors, torch.tensor([0, 1, 3]))
    assert isinstance(got, ops.BoxMatches)
    for array, tensor in zip(got, want, strict=True):
        np.testing.assert_array_equal(array, tensor.numpy())


@pytest.mark.parametrize(
    "offsets", [[1, 40], [5, 2, 30], [9, 9], [0, 1000, -7, 2**40], [-(2**62), 2**62]]
)
def test_bad_offsets_stay_inside_on_cuda(backend: Backend, offsets: list[int]) -> None:
    if backend.name.startswith("cpu"):
        pytest.skip("refused there")
    gt, anchors = backend(random_boxes(30).float()), backend(random_boxes(300).float())
    at = backend(torch.tensor(offsets))
    for anchor_at in at, None:
        try:
            out = ops.match_boxes(gt, anchors, at, anchor_at)
        except RuntimeError as error:
            if not backend.simulated or "race on global memory" not in str(error):
                raise
            continue  # overlapping images write the same results
        assert out.gt_of_anchor.amin() >= -1 and out.gt_of_anchor.amax() < 30
        assert out.anchor_of_gt.amin() >= -1 and out.anchor_of_gt.amax() < 300
    if offsets == [9, 9]:  # no box is in the only image
        assert out.gt_of_anchor.eq(-1).all() and out.anchor_of_gt.eq(-1).all()


def test_opcheck() -> None:
    gt, anchors = random_boxes(7).float(), random_boxes(60).float()
    gt_at, anchor_at = torch.tensor([0, 3, 7]), torch.tensor([0, 20, 60])
    for offsets in ((None, None), (gt_at, None), (gt_at, anchor_at)):
        opcheck(torch.ops.detcore.match_boxes, (gt, anchors, *offsets))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g, a: ops.match_boxes(g[:, :3], a), "gt must be [N, 4], got [7, 3]"),
        (lambda g, a: ops.match_boxes(g, a[0]), "anchors must be [N, 4], got [4]"),
        (
            lambda g, a: ops.match_boxes(g, a, torch.tensor(3)),
            "gt_offsets must be [images + 1], got []",
        ),
        (
            lambda g, a: ops.match_boxes(g, a, torch.zeros(0).long()),
            "gt_offsets must be [images + 1], got [0]",
        ),
        (
            lambda g, a: ops.match_boxes(g, a, torch.tensor([0, 7.0])),
            "gt_offsets must be int64, got float32",
        ),
        (
            lambda g, a: ops.match_boxes(g, a, torch.tensor([0, 5, 3, 7])),
            "gt_offsets must ascend from 0 to 7, the number of gt, got [0, 5, 3, 7]",
        ),
        (
            lambda g, a: ops.match_boxes(g, a, torch.tensor([0, 7]), torch.tensor([0, 9])),
            "anchor_offsets must ascend from 0 to 20, the number of anchors, got [0, 9]",
        ),
        (
            lambda g, a: ops.match_boxes(g, a, None, torch.tensor([0, 20])),
            "gt_offsets must be given where anchor_offsets is, got None",
        ),
        (
            lambda g, a: ops.match_boxes(g, a, torch.tensor([0, 7]), torch.tensor([0, 5, 20])),
            "anchor_offsets must be [2], as gt_offsets is, got [3]",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        call(random_boxes(7).float(), random_boxes(20).float())
    assert str(raised.value) == f"match_boxes: {words}"


def test_native_entry_wants_one_dtype() -> None:
    with pytest.raises(ValueError) as raised:
        _C.match_boxes(random_boxes(7).float(), random_boxes(7), None, None)
    assert str(raised.value) == (
        "match_boxes: gt and anchors must have one dtype, got float32 and float64"
    )
