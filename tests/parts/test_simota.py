import pytest
import torch

from detcore.ops import box_iou
from detcore.parts.assignment.simota import OneToOne, SimOTA, grid_centres


def grid(strides: tuple[int, ...] = (8, 16)) -> tuple[torch.Tensor, torch.Tensor]:
    like = torch.zeros(())
    pairs = [grid_centres((64 // s, 64 // s), (s, s), like) for s in strides]
    centres, stride = (torch.cat(values) for values in zip(*pairs, strict=True))
    return centres, stride


def squares(centres: torch.Tensor, side: float) -> torch.Tensor:
    return torch.cat((centres - side / 2, centres + side / 2), dim=1)


def test_grid_centres_run_over_rows_then_columns() -> None:
    centres, strides = grid_centres((2, 3), (8.0, 4.0), torch.zeros((), dtype=torch.float64))
    assert centres.tolist() == [[2, 4], [6, 4], [10, 4], [2, 12], [6, 12], [10, 12]]
    assert strides.tolist() == [8.0] * 6
    assert centres.dtype == torch.float64


def test_cells_near_the_centre_are_taken_and_know_their_fit() -> None:
    centres, strides = grid()
    gt = torch.tensor([[20.0, 20, 44, 44], [2, 2, 10, 10]])
    labels = torch.tensor([2, 0])
    match, quality = SimOTA()(
        squares(centres, 24.0), torch.full((len(centres), 3), 0.5), centres, strides, gt, labels
    )
    for m in range(2):
        mine = match == m
        middle = (gt[m, :2] + gt[m, 2:]) / 2
        assert mine.any()
        assert ((centres[mine] - middle).abs().amax(1) < 1.5 * strides[mine]).all()
    assert (quality[match < 0] == 0).all()
    assert (quality[match == 0] > 0.2).all()


def test_the_better_fit_and_the_right_class_are_cheaper() -> None:
    centres, strides = grid((8,))
    gt, labels = torch.tensor([[24.0, 24, 40, 40]]), torch.tensor([1])
    boxes = squares(centres, 1.0)  # the sum of IoUs is below 1: one cell is selected
    probabilities = torch.full((len(centres), 2), 0.5)
    near = torch.where(((centres - 32).abs() < 12).all(1))[0]
    boxes[near[2]] = torch.tensor([24.0, 24, 40, 36])
    match, quality = SimOTA()(boxes, probabilities, centres, strides, gt, labels)
    assert torch.where(match == 0)[0].tolist() == [near[2]]
    assert quality[near[2]].item() == pytest.approx(0.75)

    boxes[near[3]] = boxes[near[2]]
    probabilities[near[3], 1] = 0.9
    match, _ = SimOTA()(boxes, probabilities, centres, strides, gt, labels)
    assert match[near[3]] == 0


@pytest.mark.parametrize("assigner", [SimOTA(), OneToOne()])
def test_a_cell_that_two_want_goes_to_the_cheaper(assigner: SimOTA | OneToOne) -> None:
    """The other ground truth then has no cell."""
    match, quality = assigner(
        torch.tensor([[0.0, 0, 15, 16]]),
        torch.full((1, 1), 0.5),
        torch.tensor([[8.0, 8.0]]),
        torch.tensor([16.0]),
        torch.tensor([[0.0, 0, 10, 10], [0, 0, 16, 16]]),
        torch.tensor([0, 0]),
    )
    assert match.tolist() == [1]
    assert quality[0].item() == pytest.approx(15 / 16)


@pytest.mark.parametrize("assigner", [SimOTA(), OneToOne()])
def test_nothing_there(assigner: SimOTA | OneToOne) -> None:
    centres, strides = grid()
    boxes, probabilities = squares(centres, 8), torch.full((len(centres), 3), 0.1)
    none = torch.zeros(0, dtype=torch.int64)
    match, quality = assigner(boxes, probabilities, centres, strides, torch.zeros(0, 4), none)
    assert (match == -1).all()
    assert (quality == 0).all()
    match, _ = assigner(
        boxes[:0], probabilities[:0], centres[:0], strides[:0], torch.ones(1, 4), none.new_zeros(1)
    )
    assert match.shape == (0,)


@pytest.mark.parametrize("assigner", [SimOTA(), OneToOne()])
def test_predictions_that_are_no_numbers_do_no_harm(assigner: SimOTA | OneToOne) -> None:
    centres, strides = grid()
    boxes = torch.full((len(centres), 4), float("nan"))
    gt, labels = torch.tensor([[20.0, 20, 44, 44]]), torch.tensor([1])
    probabilities = torch.full((len(centres), 3), float("nan"))
    match, quality = assigner(boxes, probabilities, centres, strides, gt, labels)
    assert quality.isfinite().all()
    assert (match >= -1).all()


def greedily(cost: torch.Tensor) -> dict[int, int]:
    """The cell of each ground truth, greedily by ascending cost, as loops."""
    pairs = [(float(c), m, n) for m, row in enumerate(cost) for n, c in enumerate(row)]
    cells: dict[int, int] = {}
    for c, m, n in sorted(pairs):
        if c < float("inf") and m not in cells and n not in cells.values():
            cells[m] = n
    return cells


@pytest.mark.parametrize("seed", range(10))
def test_one_to_one_takes_the_cheapest_pairs_first(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    cost = torch.randint(0, 6, (1 + 2 * seed, 3 + seed), generator=generator).float()
    cost[torch.rand(cost.shape, generator=generator) < 0.3] = float("inf")
    taken = OneToOne()._take(cost, cost)
    assert {m: n for m, n in taken.nonzero().tolist()} == greedily(cost)
    assert int(taken.sum()) == len(greedily(cost))


def test_one_to_one_gives_each_ground_truth_one_cell_near_its_centre() -> None:
    centres, strides = grid()
    # four at one place, which all prefer the same cell
    gt = torch.tensor([[20.0, 20, 44, 44]] * 4 + [[2, 2, 10, 10], [40, 8, 60, 30]])
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    boxes, probabilities = squares(centres, 20.0), torch.full((len(centres), 3), 0.5)
    match, quality = OneToOne()(boxes, probabilities, centres, strides, gt, labels)
    assert sorted(match[match >= 0].tolist()) == list(range(6))
    cells = torch.where(match >= 0)[0]
    middle = (gt[:, :2] + gt[:, 2:])[match[cells]] / 2
    assert ((centres[cells] - middle).abs().amax(1) < 0.75 * strides[cells]).all()
    torch.testing.assert_close(
        quality[cells], box_iou(boxes[cells], gt[match[cells]]).diagonal(), atol=1e-6, rtol=0
    )
    assert (quality[match < 0] == 0).all()


def test_one_to_one_s_cell_is_the_cheapest_of_simota_s() -> None:
    centres, strides = grid()
    gt, labels = torch.tensor([[20.0, 20, 44, 44], [2, 2, 14, 10]]), torch.tensor([2, 0])
    generator = torch.Generator().manual_seed(0)
    boxes = squares(centres, 20.0) + torch.randn(len(centres), 4, generator=generator)
    given = boxes, torch.rand(len(centres), 3, generator=generator), centres, strides, gt, labels
    many, one = SimOTA(candidates=1)(*given), OneToOne(radius=1.5)(*given)
    assert torch.equal(many[0], one[0])
    wide, _ = SimOTA()(*given)
    assert (wide >= 0).sum() > 2
    assert torch.equal(wide[one[0] >= 0], one[0][one[0] >= 0])
