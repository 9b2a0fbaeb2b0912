import pytest
import torch
from torchvision.models.detection._utils import Matcher as TorchvisionMatcher
from torchvision.models.detection._utils import SSDMatcher

from detcore.ops import box_iou
from detcore.parts.assignment.iou_matcher import ArgmaxMatcher, Matcher


def quality(seed: int, coarse: bool) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(7, 101, generator=generator)
    # only eight values, so that columns and rows tie and thresholds are hit exactly
    return (matrix * 8).round() / 8 if coarse else matrix


@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("allow_low_quality", [False, True])
@pytest.mark.parametrize(("high", "low"), [(0.7, 0.3), (0.5, 0.5), (0.75, 0.25), (1.1, 0.2)])
def test_every_decision_is_torchvisions(
    high: float, low: float, allow_low_quality: bool, coarse: bool
) -> None:
    for seed in range(20):
        matrix = quality(seed, coarse)
        ours = Matcher(high, low, allow_low_quality=allow_low_quality)(matrix)
        theirs = TorchvisionMatcher(high, low, allow_low_quality)(matrix)
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 1.1])
def test_argmax_decisions_are_torchvisions(threshold: float) -> None:
    for seed in range(20):
        matrix = quality(seed, coarse=False)
        assert torch.equal(ArgmaxMatcher(threshold)(matrix), SSDMatcher(threshold)(matrix))


def test_all_that_tie_a_best_are_restored_with_their_own_row() -> None:
    matrix = torch.tensor([[0.2, 0.2, 0.1], [0.0, 0.25, 0.25]])
    assert Matcher(0.7, 0.3)(matrix).tolist() == [-1, -1, -1]
    # column 1 ties with the best of row 0, but its own best row is 1
    assert Matcher(0.7, 0.3, allow_low_quality=True)(matrix).tolist() == [0, 1, 1]


def test_of_two_rows_with_one_best_column_the_later_has_it() -> None:
    matrix = torch.tensor([[0.9, 0.1], [0.8, 0.0]])
    assert ArgmaxMatcher(0.5)(matrix).tolist() == [1, -1]


@pytest.mark.parametrize("matcher", [Matcher(0.7, 0.3, allow_low_quality=True), ArgmaxMatcher(0.5)])
def test_nothing_to_match(matcher: Matcher | ArgmaxMatcher) -> None:
    assert matcher(torch.zeros(0, 3)).tolist() == [-1, -1, -1]
    assert matcher(torch.zeros(2, 0)).tolist() == []
    assert matcher(torch.zeros(0, 0)).tolist() == []


@pytest.mark.parametrize(
    "matcher",
    [Matcher(0.5, 0.3), Matcher(0.5, 0.3, allow_low_quality=True), ArgmaxMatcher(0.5)],
    ids=["thresholds", "low quality too", "argmax"],
)
@pytest.mark.parametrize("m", [0, 1, 9])
def test_boxes_are_matched_as_their_iou_is(matcher: Matcher | ArgmaxMatcher, m: int) -> None:
    for n in (0, 1, 500):
        for extent in (30, 3000):  # with ground truths that have no anchor
            low = torch.randint(0, extent, (m + n, 2)).float()
            boxes = torch.cat((low, low + torch.randint(1, 20, (m + n, 2))), dim=1)
            gt, anchors = boxes[:m], boxes[m:]
            assert torch.equal(matcher.of_boxes(gt, anchors), matcher(box_iou(gt, anchors)))


def test_boxes_with_nan_are_background() -> None:
    gt = torch.tensor([[0.0, 0, 9, torch.nan], [0, 0, 9, 9]])
    anchors = torch.tensor([[torch.nan, 0, 9, 9], [50, 50, 60, 60], [0, 0, 9, 8]])
    for matcher in (Matcher(0.7, 0.3, allow_low_quality=True), ArgmaxMatcher(0.5)):
        assert matcher.of_boxes(gt, anchors).tolist() == [-1, -1, 1]
        assert matcher.of_boxes(gt, anchors[:1]).tolist() == [-1]


def test_bad_thresholds_and_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"low must be at most high, got low=0.6, high=0.5"):
        Matcher(0.5, 0.6)
    with pytest.raises(ValueError, match=r"quality must be \[M, N\], got \[3\]"):
        Matcher(0.5, 0.5)(torch.zeros(3))
