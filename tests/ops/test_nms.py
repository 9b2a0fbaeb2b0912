import math

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from detcore import ops, reference
from detcore.ops.samples import scores_for

from .conftest import FLOATS, Backend, random_boxes
from .peers import tv

SIZES = [0, 1, 2, 3, 31, 63, 64, 65, 95, 96, 97, 127, 257, 1023, 1025]


def clustered(n: int, clusters: int, seed: int = 0) -> Tensor:
    centres = random_boxes(clusters, 1000, 100, seed)
    g = torch.Generator().manual_seed(seed + 1)
    pick = torch.randint(0, clusters, (n,), generator=g)
    return centres[pick] + torch.randn(n, 4, generator=g, dtype=torch.float64) * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7, 1.0, 1.5])
@pytest.mark.parametrize("n", SIZES)
def test_equals_torchvision(backend: Backend, n: int, threshold: float, dtype: torch.dtype) -> None:
    for seed, whole, levels in ((0, False, None), (1, True, 5)):
        boxes = random_boxes(n, seed=seed, whole=whole).to(dtype)
        scores = scores_for(n, seed, levels).to(dtype)
        want = tv.nms(boxes, scores, threshold)
        got = ops.nms(backend(boxes), backend(scores), threshold)
        assert got.dtype == torch.int64 and torch.equal(got.cpu(), want)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_equals_reference_in_every_dtype(backend: Backend, dtype: torch.dtype) -> None:
    boxes, scores = random_boxes(400).to(dtype), scores_for(400, levels=50).to(dtype)
    for threshold in (0.2, 0.5):
        want = reference.nms(boxes, scores, threshold)
        got = ops.nms(backend(boxes), backend(scores), threshold)
        assert torch.equal(got.cpu(), want)
        mixed = ops.nms(backend(boxes), backend(scores.float()), threshold)
        assert torch.equal(mixed.cpu(), want)


def test_thresholds_hit_exactly(backend: Backend) -> None:
    """Integer boxes whose exact IoU is the threshold: 3/5 at 0.6, 3/10 at 0.3."""
    boxes = torch.tensor([[0, 0, 5, 1], [0, 0, 3, 1], [10, 0, 20, 1], [10, 0, 13, 1]]).float()
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    for threshold in (0.3, 0.6, 0.6000000238418579, 0.30000001192092896):
        want = tv.nms(boxes, scores, threshold)
        assert torch.equal(ops.nms(backend(boxes), backend(scores), threshold).cpu(), want)
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 4)
    grid = grid[(grid[:, 2] > grid[:, 0]) & (grid[:, 3] > grid[:, 1])]
    scores = scores_for(len(grid)).float()
    for threshold in (1 / 3, 0.5, 0.25, 2 / 3, 0.6, 0.2):
        want = tv.nms(grid, scores, threshold)
        assert torch.equal(ops.nms(backend(grid), backend(scores), threshold).cpu(), want)


HARD = {
    "uniform": lambda n: random_boxes(n, 1000, 100),
    "clusters": lambda n: clustered(n, max(n // 100, 1)),
    "all overlapping": lambda n: random_boxes(n, 1, 1) + torch.tensor([0.0, 0, 500, 500]),
    "identical": lambda n: random_boxes(1).expand(n, 4).contiguous(),
    "collinear": lambda n: torch.stack(
        [torch.arange(n) * 1.0, torch.zeros(n), torch.arange(n) + 9.0, torch.ones(n)], 1
    ).double(),
    "nested": lambda n: torch.stack(
        [sign * (torch.arange(n) + 1.0) for sign in (-1, -1, 1, 1)], 1
    ).double(),
    "one giant": lambda n: torch.cat(
        (random_boxes(n - 1, 1000, 10), torch.tensor([[-1e6, -1e6, 1e6, 1e6]]))),
    "one far away": lambda n: torch.cat(
        (random_boxes(n - 1, 300, 60), torch.tensor([[1e7, -1e7, 1e7 + 9, 9 - 1e7]]))),
    "two cities": lambda n: random_boxes(n, 200, 40) + 1e5 * (torch.arange(n) % 2)[:, None],
    "sparse": lambda n: random_boxes(n, 1e6, 40),
    "tall and wide": lambda n: random_boxes(n, 300, 5) * torch.tensor([1.0, 30, 1, 30])
        + (torch.arange(n) % 2)[:, None] * torch.tensor([0.0, 0, 200, 0]),
    "sizes over many decades": lambda n: random_boxes(n, 1, 1) * torch.logspace(-6, 6, n)[:, None],
    "far from the origin": lambda n: random_boxes(n, 1000, 100) + 1e6,
    "negative coordinates": lambda n: random_boxes(n, 1000, 100) - 5000,
    "tiny": lambda n: random_boxes(n) * 1e-22,
    "huge": lambda n: random_boxes(n) * 1e20,
    "zero size": lambda n: random_boxes(n)[:, [0, 1, 0, 1]],
    "inverted": lambda n: random_boxes(n)[:, [2, 3, 0, 1]],
    "half inverted": lambda n: random_boxes(n)[:, [2, 1, 0, 3]],
    "the best far away": lambda n: random_boxes(n, 300, 60)
        + 1e30 * (scores_for(n, levels=200) == scores_for(n, levels=200).max())[:, None],
    "infinite": lambda n: torch.cat((random_boxes(n - 2), torch.tensor(
        [[0, 0, math.inf, 10.0], [-math.inf, -math.inf, math.inf, math.inf]]))),
}  # fmt: skip


@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", HARD)
def test_hard_inputs_equal_torchvision(backend: Backend, name: str, threshold: float) -> None:
    n = 300 if backend.simulated else 1500
    boxes = HARD[name](n).float()
    scores = scores_for(n, levels=200).float()
    want = tv.nms(boxes, scores, threshold)
    assert torch.equal(ops.nms(backend(boxes), backend(scores), threshold).cpu(), want)


@pytest.mark.parametrize("threshold", [0.0, 0.5])
@pytest.mark.parametrize(
    "name",
    [
        "uniform",
        "clusters",
        "identical",
        "one giant",
        "nested",
        "tiny",
        "sizes over many decades",
        "far from the origin",
        "infinite",
    ],
)
def test_more_boxes_than_one_block_takes(backend: Backend, name: str, threshold: float) -> None:
    """On CUDA one block handles up to 2,048 boxes, or 1,024 of float64.

    More boxes use a grid in global memory.
    """
    for n in (2048, 2049, 2700) if name == "uniform" else (1100,):
        dtype = torch.float32 if name == "uniform" else torch.float64
        boxes, scores = HARD[name](n).to(dtype), scores_for(n, levels=200).to(dtype)
        want = tv.nms(boxes, scores, threshold)
        assert torch.equal(ops.nms(backend(boxes), backend(scores), threshold).cpu(), want)


@pytest.mark.parametrize("n", [1024, 1025, 2048, 2049])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_more_boxes_of_classes_than_one_block_takes(
    backend: Backend, n: int, dtype: torch.dtype
) -> None:
    boxes, scores = random_boxes(n, 400, 60).to(dtype), scores_for(n, levels=999).to(dtype)
    ids = torch.randint(-2, 2, (n,), generator=torch.Generator().manual_seed(n)) * 2**40
    want = reference.batched_nms(boxes, scores, ids, 0.4)
    got = ops.batched_nms(backend(boxes), backend(scores), backend(ids), 0.4)
    assert torch.equal(got.cpu(), want)


@pytest.mark.parametrize("together", [0, 100, 1000])
def test_a_crowd_among_many(backend: Backend, together: int) -> None:
    """Few boxes overlap except in one place, where the list of overlapping pairs overflows."""
    n = 400 if backend.simulated else 12_000
    boxes = random_boxes(n, 30 * n**0.5, 40)
    boxes[n // 3 : n // 3 + min(together, n // 2)] = boxes[0]
    boxes, scores = boxes.float(), scores_for(n).float()
    want = tv.nms(boxes, scores, 0.5)
    assert torch.equal(ops.nms(backend(boxes), backend(scores), 0.5).cpu(), want)


@pytest.mark.parametrize("offset", [2.0**51, 2.0**52, 2.0**53])
def test_doubles_at_the_end_of_their_digits(backend: Backend, offset: float) -> None:
    """Coordinates so large that rounding moves a centre by the width of a box."""
    for seed in range(20):
        boxes = random_boxes(150, 80, 14, seed, whole=True) + offset
        scores = scores_for(150, seed)
        want = tv.nms(boxes, scores, 0.3)
        assert torch.equal(ops.nms(backend(boxes), backend(scores), 0.3).cpu(), want)


@pytest.mark.parametrize("seed", range(8))
def test_random_shapes(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for _ in range(12):
        n = int(torch.randint(1, 700, (1,), generator=g))
        extent, side = (10 ** (torch.rand(2, generator=g) * 3)).tolist()
        threshold = float(torch.rand(1, generator=g))
        boxes = random_boxes(n, extent, side, seed, whole=bool(n % 2)).float()
        scores = scores_for(n, seed, levels=100).float()
        want = tv.nms(boxes, scores, threshold)
        assert torch.equal(ops.nms(backend(boxes), backend(scores), threshold).cpu(), want), (
            n, extent, side, threshold,
        )  # fmt: skip


def test_nan_is_never_kept_and_suppresses_nothing(backend: Backend) -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 10], [0, math.nan, 10, 10], [20, 20, 30, 30]])
    scores = torch.tensor([0.5, math.nan, 0.9, math.inf])
    assert ops.nms(backend(boxes), backend(scores), 0.5).tolist() == [3, 0]
    ids = torch.zeros(4, dtype=torch.int64)
    assert ops.batched_nms(backend(boxes), backend(scores), backend(ids), 0.5).tolist() == [3, 0]
    everything = torch.full((5, 4), math.nan)
    assert ops.nms(backend(everything), backend(torch.zeros(5)), 0.5).tolist() == []


def test_ties_go_to_the_lower_index(backend: Backend) -> None:
    boxes = random_boxes(300, 5000, 2).float()  # few overlap
    scores = torch.zeros(300)
    scores[::2] = -0.0
    kept = ops.nms(backend(boxes), backend(scores), 0.5).tolist()
    assert kept == sorted(kept) and len(kept) > 250


def test_special_scores_are_ordered(backend: Backend) -> None:
    scores = torch.tensor([-math.inf, 1.0, math.inf, -1.0, 0.0, 1e-45, -1e-45])
    boxes = torch.arange(7.0)[:, None] * 100 + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert ops.nms(backend(boxes), backend(scores), 0.5).tolist() == [2, 1, 5, 4, 6, 3, 0]


@pytest.mark.parametrize("classes", [1, 3, 80, 1000])
@pytest.mark.parametrize("n", [0, 1, 65, 500, 1100])
def test_batched_equals_torchvision_per_class(backend: Backend, n: int, classes: int) -> None:
    boxes = random_boxes(n, 200, 60, whole=True).float()
    scores = scores_for(n, levels=300).float()
    ids = torch.randint(0, classes, (n,), generator=torch.Generator().manual_seed(n))
    got = ops.batched_nms(backend(boxes), backend(scores), backend(ids), 0.4)
    want = reference.batched_nms(boxes, scores, ids, 0.4)
    assert torch.equal(got.cpu(), want)
    if n:
        vanilla = tv.boxes._batched_nms_vanilla(boxes, scores, ids, 0.4)
        assert got.cpu().sort().values.tolist() == vanilla.sort().values.tolist()


@pytest.mark.parametrize("few", [1, 2, 4, 8])
def test_classes_on_two_threads_keep_apart(backend: Backend, few: int) -> None:
    """One thread works on its last class while another works on its first, the next in memory."""
    before, classes = torch.get_num_threads(), 10 if backend.simulated else 60
    sizes = torch.full((classes,), 100)
    sizes[: classes // 2 - 1] = few
    sizes[classes // 2 - 1], sizes[classes // 2] = 10, 255
    ids = torch.repeat_interleave(torch.arange(classes), sizes)
    place = torch.cat([torch.arange(int(size)) for size in sizes])
    place[(ids == classes // 2) & (place >= 250)] -= 250  # the worst boxes are on the best
    low = place[:, None] * torch.tensor([100.0, 100.0])
    boxes, scores = torch.cat((low, low + 20), 1), 1 - torch.arange(len(ids)) / 1e4
    want = reference.batched_nms(boxes, scores, ids, 0.3)
    args = backend(boxes), backend(scores), backend(ids), 0.3
    try:
        torch.set_num_threads(2)
        for _ in range(1 if backend.simulated else 50):
            assert torch.equal(ops.batched_nms(*args).cpu(), want)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("members", [5, 33, 100, 255, 257, 700])
def test_classes_side_by_side(backend: Backend, members: int) -> None:
    """Classes of about the same size, handled by several threads at once."""
    n = 1400 if backend.simulated else 24_000
    boxes, scores = random_boxes(n, 200, 60).float(), scores_for(n).float()
    ids = torch.arange(n) % (n // members + 1)
    want = tv.boxes._batched_nms_vanilla(boxes, scores, ids, 0.4).sort().values
    for _ in range(1 if backend.simulated else 10):
        got = ops.batched_nms(backend(boxes), backend(scores), backend(ids), 0.4).cpu()
        assert torch.equal(got.sort().values, want)


def test_class_ids_are_only_compared(backend: Backend) -> None:
    boxes = random_boxes(200, 50, 30).float()
    scores = scores_for(200).float()
    small = torch.arange(200) % 7
    want = ops.batched_nms(backend(boxes), backend(scores), backend(small), 0.5)
    large = small * 2**60 - 2**61
    assert torch.equal(ops.batched_nms(backend(boxes), backend(scores), backend(large), 0.5), want)
    for dtype in (torch.int32, torch.uint8, torch.float32):
        ids = backend(small.to(dtype))
        assert torch.equal(ops.batched_nms(backend(boxes), backend(scores), ids, 0.5), want)
    fractions = backend(small * 0.125)  # if truncated, all would be one class
    assert torch.equal(ops.batched_nms(backend(boxes), backend(scores), fractions, 0.5), want)


@pytest.mark.slow
def test_many_boxes() -> None:
    for n in (20_000, 100_000):
        boxes, scores = random_boxes(n, 2000, 60).float(), scores_for(n).float()
        if n <= 20_000:
            assert torch.equal(ops.nms(boxes, scores, 0.5), tv.nms(boxes, scores, 0.5))
        kept = ops.nms(boxes, scores, 0.5)
        assert torch.equal(ops.nms(boxes[kept], scores[kept], 0.5), torch.arange(len(kept)))


def test_python_threads_get_right_answers() -> None:
    from concurrent.futures import ThreadPoolExecutor

    cases = [
        (random_boxes(n, 300, 60, n).float(), scores_for(n).float()) for n in range(50, 900, 50)
    ]
    want = [tv.nms(b, s, 0.5) for b, s in cases]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            got = list(pool.map(lambda c: ops.nms(*c, 0.5), cases))
            assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


def test_opcheck() -> None:
    boxes, scores = random_boxes(20).float(), scores_for(20).float()
    opcheck(torch.ops.detcore.nms, (boxes, scores, 0.5))
    opcheck(torch.ops.detcore.batched_nms, (boxes, scores, torch.arange(20) % 3, 0.5))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda b, s: ops.nms(b[:, :3], s, 0.5), "nms: boxes must be [N, 4], got [7, 3]"),
        (lambda b, s: ops.nms(b, s[:6], 0.5), "nms: scores must be [7], one per box, got [6]"),
        (lambda b, s: ops.nms(b, s, -0.5), "nms: iou_threshold must be at least 0, got -0.5"),
        (lambda b, s: ops.nms(b, s, math.nan), "nms: iou_threshold must be at least 0, got nan"),
        (
            lambda b, s: ops.nms(b.long(), s, 0.5),
            "nms: boxes must be float32, float64, float16 or bfloat16, got int64",
        ),
        (
            lambda b, s: ops.nms(b, s.int(), 0.5),
            "nms: scores must be float32, float64, float16 or bfloat16, got int32",
        ),
        (
            lambda b, s: ops.batched_nms(b, s, torch.zeros(7, 1).long(), 0.5),
            "batched_nms: idxs must be [7], one per box, got [7, 1]",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    with pytest.raises(ValueError) as raised:
        call(random_boxes(7).float(), scores_for(7).float())
    assert str(raised.value) == words
