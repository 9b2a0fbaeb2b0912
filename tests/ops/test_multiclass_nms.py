import math

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from detcore import ops, reference
from detcore.ops._native import _C

from .conftest import FLOATS, Backend, random_boxes
from .peers import tv

Found = tuple[Tensor, Tensor, Tensor, Tensor]


def inputs_for(
    batch: int,
    n: int,
    classes: int,
    *,
    per_class: bool = False,
    levels: int | None = None,
    seed: int = 0,
    whole: bool = False,
) -> tuple[Tensor, Tensor]:
    """float64 boxes [B, N, 4] or [B, N, C, 4] and scores; levels: number of different scores, to
    get ties."""
    of_box = classes if per_class else 1
    boxes = random_boxes(batch * n * of_box, 100, 40, seed, whole)
    shape = (batch, n, classes, 4) if per_class else (batch, n, 4)
    g = torch.Generator().manual_seed(seed + 7 * n + classes)
    scores = torch.rand(batch, n, classes, generator=g, dtype=torch.float64)
    scores = scores if levels is None else (scores * levels).floor() / levels
    return boxes.reshape(shape), scores


def check(
    backend: Backend, boxes: Tensor, scores: Tensor, *settings: float, **named: float
) -> Found:
    """The result must have the same bits as the reference's."""
    found = ops.multiclass_nms(backend(boxes), backend(scores), *settings, **named)
    want = reference.multiclass_nms(boxes, scores, *settings, **named)
    for name, ours, theirs in zip(
        ("boxes", "scores", "labels", "counts"), found, want, strict=True
    ):
        assert ours.dtype == theirs.dtype and torch.equal(ours.cpu(), theirs), name
    return tuple(x.cpu() for x in found)  # type: ignore[return-value]


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(
    ("batch", "n", "classes"),
    [
        (1, 0, 3), (2, 5, 0), (0, 4, 3), (0, 0, 0), (1, 1, 1), (2, 2, 3), (1, 63, 1), (1, 64, 2),
        (3, 65, 3), (1, 31, 17), (1, 130, 7), (2, 17, 33), (1, 257, 1),
    ],
)  # fmt: skip
def test_equals_reference(
    backend: Backend, batch: int, n: int, classes: int, per_class: bool
) -> None:
    boxes, scores = inputs_for(batch, n, classes, per_class=per_class)
    check(backend, boxes.float(), scores.float())
    if not backend.simulated or n < 100:
        check(backend, boxes.float(), scores.float(), 0.3, 0.3, 9, 5)
        check(backend, boxes.float(), scores.float(), -1.0, 0.9, 1000, 1000)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_dtype(backend: Backend, dtype: torch.dtype) -> None:
    boxes, scores = inputs_for(1, 90, 3)
    check(backend, boxes.to(dtype), scores.to(dtype), 0.2, 0.4, 30, 20)
    check(backend, boxes.to(dtype), scores.float(), 0.2, 0.4, 30, 20)
    check(backend, boxes.to(dtype), scores, 0.2, 0.4, 30, 20)
    check(backend, boxes.float(), scores.to(dtype), 0.2, 0.4, 30, 20)
    check(backend, boxes, scores.to(dtype), 0.2, 0.4, 30, 20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_long_way(backend: Backend, dtype: torch.dtype) -> None:
    """Boxes suppress so many others that the best candidates of the image are not enough."""
    boxes, scores = inputs_for(2, 60 if backend.simulated else 400, 5)
    boxes = (boxes / 100 + torch.tensor([0.0, 0, 50, 50])).to(dtype)
    for limit in (1, 2, 3, 6):
        for layout in (scores, scores.transpose(1, 2).contiguous().transpose(1, 2)):
            found = check(backend, boxes, layout.to(dtype), 0.01, 0.2, 30, limit)
            assert found[3].tolist() == [min(limit, 5)] * 2


def test_equal_scores_go_by_class_and_then_by_box(backend: Backend) -> None:
    boxes = torch.arange(40.0)[:, None] * 100 + torch.tensor([0.0, 0, 1, 1])
    found = check(backend, boxes[None], torch.full((1, 40, 3), 0.5), 0.1, 0.5, 30, 65)
    rows = torch.cat((torch.arange(30), torch.arange(30), torch.arange(5))).float() * 100
    assert torch.equal(found[0][0, :, 0], rows)
    assert found[2][0].tolist() == [0] * 30 + [1] * 30 + [2] * 5
    for levels in (1, 2, 5):
        many, scores = inputs_for(1, 80 if backend.simulated else 500, 4, levels=levels)
        check(backend, many.float(), scores.float() + 0.1, 0.05, 0.5, 20, 60)
        check(backend, many, scores + 0.1, 0.05, 0.5, 20, 5)


def test_zeros_of_either_sign_tie(backend: Backend) -> None:
    boxes = (torch.arange(6.0)[:, None] * 100 + torch.tensor([0.0, 0, 1, 1]))[None]
    scores = torch.tensor([-0.0, 0.0, -0.0, -1.0, 0.0, -math.inf]).view(1, 6, 1)
    found = check(backend, boxes, scores, -0.5, 0.5, 3, 9)
    assert found[0][0, :3, 0].tolist() == [0, 100, 200]
    assert check(backend, boxes, scores, 0.0)[3].tolist() == [0]
    assert check(backend, boxes, scores, -math.inf, 0.5, 9, 9)[3].tolist() == [5]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_score_threshold_is_rounded_as_torch_does(backend: Backend, dtype: torch.dtype) -> None:
    boxes = (torch.arange(5.0)[:, None] * 100 + torch.tensor([0.0, 0, 1, 1]))[None]
    scores = torch.tensor([0.001, 0.00101, 0.00099, 0.001004, 0.1], dtype=torch.float64)
    for threshold in (0.001, 0.1, float(scores.to(dtype)[0])):
        check(backend, boxes, scores.to(dtype).view(1, 5, 1), threshold)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6, 1.0])
def test_iou_thresholds_hit_exactly(backend: Backend, threshold: float) -> None:
    """Integer boxes whose exact IoU is the threshold, as in test_nms."""
    boxes = torch.tensor([[0, 0, 5, 1], [0, 0, 3, 1], [10, 0, 20, 1], [10, 0, 13, 1]]).float()
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    check(backend, boxes[None], scores.view(1, 4, 1), 0.1, threshold)
    whole, scores = inputs_for(1, 120, 2, whole=True)
    check(backend, whole.float(), scores.float(), 0.1, threshold)


def test_nan_never_comes_out_nor_takes_a_place(backend: Backend) -> None:
    boxes, scores = inputs_for(1, 50, 3, per_class=True)
    scores[0, 3, 0] = scores[0, 7, 1] = math.nan
    scores[0, 4, 2] = math.inf
    for corner in range(4):
        boxes[0, 10 + corner, 1, corner] = math.nan
        scores[0, 10 + corner] = 2.0
    boxes[0, 20, 0, 2] = math.inf
    found = check(backend, boxes.float(), scores.float(), 0.1, 0.5, 7, 20)
    assert not found[0].isnan().any() and found[1][0, 0] == math.inf
    nothing = check(backend, torch.full((2, 3, 4), math.nan), torch.ones(2, 3, 2))
    assert nothing[3].tolist() == [0, 0]
    assert (nothing[2] == -1).all() and (nothing[0] == 0).all() and (nothing[1] == 0).all()
    nothing = check(backend, torch.ones(2, 3, 4), torch.full((2, 3, 2), math.nan))
    assert nothing[3].tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(4))
def test_random_settings(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)

    def among(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=g))

    for _ in range(3):
        n = among(1, 80 if backend.simulated else 400)
        classes = among(1, 6 if backend.simulated else 20)
        boxes, scores = inputs_for(
            among(1, 3), n, classes, per_class=bool(among(0, 2)), seed=seed,
            levels=among(2, 50) if among(0, 2) else None,
        )  # fmt: skip
        score, iou = torch.rand(2, generator=g).tolist()
        check(backend, boxes.float(), scores.float(), score**3, iou, among(1, n + 3), among(1, 200))


def test_layouts_are_read_where_they_lie(backend: Backend) -> None:
    boxes, scores = (x.float() for x in inputs_for(2, 40, 5, per_class=True))
    want = check(backend, boxes, scores, 0.2)
    wide = torch.full((2, 43, 9), 2.0)
    wide[:, 2:42, 3:8] = scores
    wide_boxes = torch.zeros(2, 43, 9, 6)
    wide_boxes[:, 2:42, 3:8, 1:5] = boxes
    by_class = scores.transpose(1, 2).contiguous().transpose(1, 2)
    scattered = scores.repeat_interleave(2, 1).repeat_interleave(3, 2)[:, ::2, ::3]
    turned = boxes.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    for b in (wide_boxes[:, 2:42, 3:8, 1:5], turned):
        for s in (wide[:, 2:42, 3:8], by_class, scattered):
            found = ops.multiclass_nms(backend(b), backend(s), 0.2)
            assert all(torch.equal(x.cpu(), y) for x, y in zip(found, want, strict=True))
    shared = boxes[:, :, :1]
    found = check(backend, shared.expand(-1, -1, 5, -1), scores, 0.2)
    want = check(backend, shared[:, :, 0], scores, 0.2)
    assert all(torch.equal(x, y) for x, y in zip(found, want, strict=True))
    check(backend, boxes[:, :, 0], scores[:, :, :1].expand(-1, -1, 3), 0.2)
    check(backend, boxes[:, :1, 0].expand(-1, 9, -1), scores[:, :1].expand(-1, 9, -1), 0.2)


def test_more_candidates_than_shared_memory_holds(backend: Backend) -> None:
    n = 2100
    boxes, scores = random_boxes(n, 20000, 40).float(), torch.rand(n, 1)
    found = check(backend, boxes[None], scores[None], 0.0, 0.5, n, 2 * n)
    assert found[3].item() > 2048


def test_equals_torchvision(backend: Backend) -> None:
    boxes, scores = (x[0].float() for x in inputs_for(1, 300, 4))
    if backend.simulated:
        boxes, scores = boxes[:90], scores[:90]
    found = ops.multiclass_nms(backend(boxes[None]), backend(scores[None]), 0.2, 0.5, 60, 50)
    columns = []
    for c in range(4):
        score, row = scores[:, c].where(scores[:, c] > 0.2, 0).topk(60)
        row, score = row[score > 0], score[score > 0]
        columns.append((boxes[row], score, torch.full_like(row, c)))
    box, score, label = (torch.cat(x) for x in zip(*columns, strict=True))
    keep = tv.boxes._batched_nms_vanilla(box, score, label, 0.5)[:50]
    assert torch.equal(found[0][0, : len(keep)].cpu(), box[keep])
    assert torch.equal(found[2][0, : len(keep)].cpu(), label[keep])


def test_any_number_of_threads_gives_the_same() -> None:
    boxes, scores = (x.float() for x in inputs_for(3, 900, 20, levels=200))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results += [
                (*ops.multiclass_nms(boxes, scores, 0.01, iou, 300, 100),
                 *ops.multiclass_nms(boxes[:1], scores[:1], 0.01, iou, 300, 100))
                for iou in (0.0, 0.5)
            ]  # fmt: skip
    finally:
        torch.set_num_threads(before)
    for i, other in enumerate(results[2:]):
        assert all(torch.equal(a, b) for a, b in zip(results[i % 2], other, strict=True))


def test_instruction_sets_agree_on_a_detector_s_load() -> None:
    boxes, scores = inputs_for(1, 3234, 90)
    boxes, scores = boxes.float(), scores.float() ** 8
    widest, found = _C.isa(), []
    try:
        for isa in _C.build_facts()["instruction_sets"].split():
            _C.set_isa(isa)
            found.append(ops.multiclass_nms(boxes, scores, 0.001, 0.55, 300, 300))
    finally:
        _C.set_isa(widest)
    want = reference.multiclass_nms(boxes, scores, 0.001, 0.55, 300, 300)
    for other in found:
        assert all(torch.equal(a, b) for a, b in zip(want, other, strict=True))


def test_opcheck() -> None:
    for per_class in (False, True):
        boxes, scores = (x.float() for x in inputs_for(2, 20, 3, per_class=per_class))
        opcheck(torch.ops.detcore.multiclass_nms, (boxes, scores, 0.1, 0.5, 9, 7))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cuda_graph_holds_it() -> None:
    boxes, scores = (x.float().cuda() for x in inputs_for(2, 300, 5))
    ops.multiclass_nms(boxes, scores)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = ops.multiclass_nms(boxes, scores)
    scores.copy_(scores.flip(1))
    graph.replay()
    want = ops.multiclass_nms(boxes, scores)
    assert all(torch.equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda b, s: ops.multiclass_nms(b[0], s),
            "boxes must be [B, N, 4] or [B, N, C, 4], got [7, 4]",
        ),
        (
            lambda b, s: ops.multiclass_nms(b[..., :3], s),
            "boxes must be [B, N, 4] or [B, N, C, 4], got [2, 7, 3]",
        ),
        (lambda b, s: ops.multiclass_nms(b, s[0]), "scores must be [2, 7, C], got [7, 3]"),
        (lambda b, s: ops.multiclass_nms(b, s[:, :6]), "scores must be [2, 7, C], got [2, 6, 3]"),
        (
            lambda b, s: ops.multiclass_nms(b[:, :, None], s),
            "scores must be [2, 7, 1], got [2, 7, 3]",
        ),
        (
            lambda b, s: ops.multiclass_nms(b.long(), s),
            "boxes must be float32, float64, float16 or bfloat16, got int64",
        ),
        (
            lambda b, s: ops.multiclass_nms(b, s.int()),
            "scores must be float32, float64, float16 or bfloat16, got int32",
        ),
        (
            lambda b, s: ops.multiclass_nms(b, s, math.nan),
            "score_threshold must be a number, got nan",
        ),
        (
            lambda b, s: ops.multiclass_nms(b, s, 0.1, -0.5),
            "iou_threshold must be at least 0, got -0.5",
        ),
        (
            lambda b, s: ops.multiclass_nms(b, s, 0.1, math.nan),
            "iou_threshold must be at least 0, got nan",
        ),
        (
            lambda b, s: ops.multiclass_nms(b, s, 0.1, 0.5, 0),
            "candidates_per_class must be at least 1, got 0",
        ),
        (
            lambda b, s: ops.multiclass_nms(b, s, 0.1, 0.5, 1, 0),
            "max_per_image must be at least 1, got 0",
        ),
    ],
)
def test_errors(call, words: str) -> None:
    boxes, scores = inputs_for(2, 7, 3)
    with pytest.raises(ValueError) as raised:
        call(boxes.float(), scores.float())
    assert str(raised.value) == f"multiclass_nms: {words}"
