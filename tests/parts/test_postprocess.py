import pytest
import torch
from torchvision.ops import batched_nms

from detcore.ops import multiclass_nms
from detcore.parts.postprocess import Postprocess, ProposalSelector, _best_of_all
from detcore.parts.preprocess import ImageBatch, Size

NAN = float("nan")


def boxes(n: int, seed: int = 0, side: float = 100.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * side - 5
    return torch.cat((corner, corner + 5 + torch.rand(n, 2, generator=generator) * 30), dim=1)


def batch_of(*sizes: Size) -> ImageBatch:
    return ImageBatch(torch.zeros(len(sizes), 3, 8, 8), list(sizes), list(sizes))


def of_one(
    post: Postprocess, boxes: torch.Tensor, scores: torch.Tensor, size: Size
) -> dict[str, torch.Tensor]:
    (found,) = post(boxes[None], scores[None], batch_of(size)).per_image()
    return found


def by_hand(
    box: torch.Tensor, score: torch.Tensor, post: Postprocess, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same rule, written as loops, with torchvision's NMS."""
    rows: list[tuple[float, int, list[float]]] = []
    for c in range(score.shape[1]):
        reach = len(score) if post.iou_threshold is None else post.candidates_per_class
        best = score[:, c].sort(descending=True, stable=True).indices[:reach]
        for i in best.tolist():
            x1, y1, x2, y2 = (box[i] if box.dim() == 2 else box[i, c]).tolist()
            x1, x2 = (min(max(x, 0), size[1]) for x in (x1, x2))
            y1, y2 = (min(max(y, 0), size[0]) for y in (y1, y2))
            if score[i, c] > post.score_threshold and min(x2 - x1, y2 - y1) >= post.min_size:
                rows.append((float(score[i, c]), c, [x1, y1, x2, y2]))
    b = torch.tensor([r[2] for r in rows]).view(-1, 4)
    s = torch.tensor([r[0] for r in rows])
    c = torch.tensor([r[1] for r in rows], dtype=torch.int64)
    if post.iou_threshold is None:
        keep = s.argsort(descending=True, stable=True)[: post.max_detections]
    else:
        keep = batched_nms(b, s, c, post.iou_threshold)[: post.max_detections]
    return b[keep], s[keep], c[keep] + post.first_label


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize(
    "post",
    [
        Postprocess(),
        Postprocess(0.3, 0.3, candidates_per_class=7, max_detections=5),
        Postprocess(0.9999, 0.5),
        Postprocess(0.0, 0.9, min_size=20, first_label=0),
        Postprocess(0.3, None, max_detections=70),
        Postprocess(0.9, None, candidates_per_class=1, max_detections=1000),
    ],
)
def test_the_rule(post: Postprocess, per_class: bool) -> None:
    n, classes = 60, 4
    box = boxes(n * classes).view(n, classes, 4) if per_class else boxes(n)
    scores = torch.rand(n, classes, generator=torch.Generator().manual_seed(1))
    found = of_one(post, box, scores, (80, 90))
    want = by_hand(box, scores, post, (80, 90))
    for name, values in zip(("boxes", "scores", "labels"), want, strict=True):
        torch.testing.assert_close(found[name], values)
    assert found["labels"].dtype == torch.int64
    assert (found["scores"].diff() <= 0).all()


@pytest.mark.parametrize(("n", "classes"), [(0, 3), (4, 0), (0, 0)])
@pytest.mark.parametrize("post", [Postprocess(), Postprocess(iou_threshold=None)])
def test_nothing_in_nothing_out(post: Postprocess, n: int, classes: int) -> None:
    found = of_one(post, torch.zeros(n, 4), torch.zeros(n, classes), (10, 10))
    assert [tuple(found[k].shape) for k in ("boxes", "scores", "labels")] == [(0, 4), (0,), (0,)]
    assert found["labels"].dtype == torch.int64


@pytest.mark.parametrize(
    "post",
    [Postprocess(candidates_per_class=1), Postprocess(iou_threshold=None, max_detections=1)],
)
def test_boxes_left_out_take_nobody_s_place(post: Postprocess) -> None:
    inf = float("inf")
    bad = torch.tensor(
        [[0, 0, 9, NAN], [0, 0, inf, 9], [-inf, 0, 9, 9], [5, 5, 5, 9], [60, 0, 70, 9]]
    )
    box = torch.cat((bad, torch.tensor([[20.0, 20, 29, 29]])))
    for boxes in (box, box[:, None]):
        found = of_one(post, boxes, torch.linspace(1, 0.5, 6)[:, None], (50, 50))
        assert found["boxes"].tolist() == [[20, 20, 29, 29]]


@pytest.mark.parametrize("post", [Postprocess(), Postprocess(iou_threshold=None)])
def test_images_do_not_see_each_other(post: Postprocess) -> None:
    batch = ImageBatch(torch.zeros(2, 3, 64, 64), [(32, 64), (64, 16)], [(64, 128), (32, 8)])
    scores = torch.rand(2, 50, 3, generator=torch.Generator().manual_seed(2))
    for box in (boxes(100).view(2, 50, 4), boxes(300).view(2, 50, 3, 4)):
        together = post(box, scores, batch).per_image()
        for i, one in enumerate(together):
            alone = ImageBatch(batch.images[:1], batch.sizes[i:][:1], batch.original_sizes[i:][:1])
            (other,) = post(box[i : i + 1], scores[i : i + 1], alone).per_image()
            assert one.keys() == other.keys() and len(one["scores"]) > 0
            assert all(torch.equal(one[k], other[k]) for k in one)
    none = post(torch.zeros(0, 5, 4), torch.zeros(0, 5, 3), batch_of())
    assert none.per_image() == []


def test_shapes_do_not_depend_on_what_is_found() -> None:
    box = torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60]]).expand(2, 2, 4)
    scores = torch.tensor([[[0.9], [0.8]], [[0.0], [0.0]]])
    found = Postprocess(max_detections=5)(box, scores, batch_of((90, 90), (90, 90)))
    assert [tuple(t.shape) for t in found] == [(2, 5, 4), (2, 5), (2, 5), (2,)]
    assert found.counts.tolist() == [2, 0]
    assert found.labels.tolist() == [[1, 1, 0, 0, 0], [0] * 5]
    assert found.boxes[0, 2:].abs().sum() == found.scores[1].sum() == 0


@pytest.mark.parametrize(
    "post",
    [Postprocess(candidates_per_class=3), Postprocess(iou_threshold=None, max_detections=3)],
)
def test_what_is_not_a_number_neither_comes_out_nor_takes_a_place(post: Postprocess) -> None:
    box = torch.tensor([[0.0, 0, 9, 9], [NAN, 0, 9, 9], [0, 0, float("inf"), 9], [20, 20, 29, 29]])
    scores = torch.tensor([[NAN], [0.9], [0.8], [0.7]])
    found = of_one(post, box, scores, (50, 50))
    assert found["boxes"].tolist() == [[20, 20, 29, 29]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("most", [1, 40, 2000])
def test_without_suppression_ties_and_the_rest_are_multiclass_nms_s(
    dtype: torch.dtype, per_class: bool, most: int
) -> None:
    """No IoU is above 1, so NMS with that threshold suppresses nothing and must agree."""
    batch, n, classes = 3, 90, 5
    box = boxes(batch * n * classes).view(batch, n, classes, 4).to(dtype)
    box = box if per_class else box[:, :, 0]
    generator = torch.Generator().manual_seed(3)
    # ten different scores for 450 places: nearly all are ties
    scores = (torch.randint(0, 10, (batch, n, classes), generator=generator) / 10).to(dtype)
    scores[0, 3], scores[1, :, 2], scores[2] = NAN, 0.9, 0.0
    box[1, 5:9] = NAN
    got = _best_of_all(box, scores, 0.2, most)
    want = multiclass_nms(box, scores, 0.2, 1.0, n, most)
    for one, other in zip(got, want, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_without_suppression_one_object_may_come_out_twice() -> None:
    twice = torch.tensor([[10.0, 10, 30, 30]]).repeat(2, 1)
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.3]])
    found = of_one(Postprocess(0.2, iou_threshold=None), twice, scores, (50, 50))
    assert found["labels"].tolist() == [1, 1, 2]
    assert len(of_one(Postprocess(0.2), twice, scores, (50, 50))["labels"]) == 2


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, N, C\], got \[1, 3, 4\] and \[1, 2, 5\]"):
        Postprocess()(torch.zeros(1, 3, 4), torch.zeros(1, 2, 5), batch_of((10, 10)))
    with pytest.raises(ValueError, match="for 2 images"):
        Postprocess()(torch.zeros(1, 2, 4), torch.zeros(1, 2, 5), batch_of((9, 9), (9, 9)))


def test_a_batch_goes_back_to_its_own_pixels() -> None:
    batch = ImageBatch(torch.zeros(2, 3, 64, 64), [(32, 64), (64, 16)], [(64, 128), (32, 8)])
    box = torch.tensor([[2.0, 4, 60, 30]])
    first, second = Postprocess()(box.expand(2, 1, 4), torch.ones(2, 1, 1), batch).per_image()
    assert first["boxes"].tolist() == [[4, 8, 120, 60]]
    # clipped to the 16 columns of its image before scaling
    assert second["boxes"].tolist() == [[1, 2, 8, 15]]


def proposals(
    select: ProposalSelector, boxes: list[torch.Tensor], logits: list[torch.Tensor]
) -> list[list[float]]:
    found, counts = select([b[None] for b in boxes], [v[None] for v in logits], [(100, 100)])
    assert found.shape == (1, select.after_nms, 4)
    assert found[0, int(counts[0]) :].abs().sum() == 0
    return found[0, : int(counts[0])].tolist()


def test_proposals_are_chosen_a_level_at_a_time() -> None:
    box = torch.tensor([[0.0, 0, 20, 20], [1, 1, 21, 21], [40, 40, 60, 60]])
    logits = torch.tensor([3.0, 2.0, 1.0])
    select = ProposalSelector(before_nms=10, after_nms=10)
    assert proposals(select, [box], [logits]) == [box[0].tolist(), box[2].tolist()]
    # the same two boxes don't suppress each other if they are from different levels
    assert proposals(select, [box[:1], box[1:]], [logits[:1], logits[1:]]) == box.tolist()
    assert len(proposals(ProposalSelector(before_nms=1), [box, box + 30], [logits] * 2)) == 2
    assert len(proposals(ProposalSelector(after_nms=1), [box], [logits])) == 1


def test_proposals_at_the_score_threshold_stay() -> None:
    box = torch.tensor([[0.0, 0, 20, 20], [30, 1, 51, 21], [40, 40, 60, 60]])
    logits = torch.tensor([0.0, 1.0, -0.1])
    select = ProposalSelector(score_threshold=0.5)
    assert proposals(select, [box], [logits]) == [box[1].tolist(), box[0].tolist()]


def test_proposals_of_images_do_not_mix() -> None:
    box = torch.tensor([[[0.0, 0, 20, 20]], [[0.0, 0, 60, 20]]])
    found, counts = ProposalSelector(after_nms=3)([box], [torch.zeros(2, 1)], [(90, 90), (50, 40)])
    assert counts.tolist() == [1, 1]
    assert found[:, 0].tolist() == [[0, 0, 20, 20], [0, 0, 40, 20]]


def test_proposals_survive_bad_rows_and_none_at_all() -> None:
    box = torch.tensor([[0.0, 0, 20, 20], [NAN, 1, 21, 21], [200, 40, 260, 60]])
    select = ProposalSelector()
    assert proposals(select, [box], [torch.tensor([1.0, 5.0, 9.0])]) == [[0, 0, 20, 20]]
    assert proposals(select, [torch.zeros(0, 4)], [torch.zeros(0)]) == []
