import math

import pytest
import torch

from detcore.ops import box_convert, box_iou, paired_box_iou
from detcore.parts.angle_coder import AngleCoder
from detcore.parts.box_forms import enclosing
from detcore.parts.losses import box_head_loss
from detcore.parts.oriented_box_coder import OrientedBoxCoder, OrientingCoder


def box(*numbers: float) -> torch.Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def some(n: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rand = torch.rand(n, 5, generator=generator, dtype=torch.float64)
    return rand * torch.tensor([50, 50, 40, 40, 360]) + torch.tensor([0, 0, 5, 5, -180])


def same_rectangle(one: torch.Tensor, other: torch.Tensor) -> None:
    assert (1 - paired_box_iou(one, other, eps=0.0, fmt="cxcywhr")).abs().max() < 1e-6


@pytest.mark.parametrize("n", [0, 1, 37])
def test_both_names_decode_to_the_box(n: int) -> None:
    boxes, regions = some(n, 0), some(n, 1)
    coder = OrientedBoxCoder()
    deltas = coder.encode(boxes, regions)
    assert deltas.shape == (n, 2, 5)
    # two boxes of each region, as a head of two classes gives them
    both = coder.decode(deltas.flatten(1), regions)
    assert both.shape == (n, 10)
    if n:
        for found in (both[:, :5], both[:, 5:]):
            same_rectangle(found, boxes)
            assert (found[:, 4] >= -90).all() and (found[:, 4] < 90).all()


def test_deltas_by_hand_in_the_regions_frame() -> None:
    """A region of 20 x 10 turned by 90 degrees: its width points up, its height to the right."""
    deltas = OrientedBoxCoder((1.0, 1.0, 1.0, 1.0, 1.0)).encode(
        box(55, 44, 40, 10, 100), box(50, 50, 20, 10, 90)
    )
    turn = math.radians(10)
    # 6 pixels up are 0.3 of the width, 5 to the right are half the height
    torch.testing.assert_close(deltas[0, 0], box(0.3, 0.5, math.log(2), 0, turn)[0])
    other = box(0.3, 0.5, math.log(0.5), math.log(4), turn - math.pi / 2)[0]
    torch.testing.assert_close(deltas[0, 1], other)


def test_deltas_turn_with_the_picture() -> None:
    """The region and the box turned together: the same deltas, whatever the angle."""
    region, target = box(0, 0, 30, 12, 0), box(3, -2, 34, 10, 8)
    wanted = OrientedBoxCoder().encode(target, region)
    for degrees in range(-180, 181, 15):
        turn = math.radians(degrees)
        x = 3 * math.cos(turn) - 2 * math.sin(turn)
        y = -3 * math.sin(turn) - 2 * math.cos(turn)
        turned = OrientedBoxCoder().encode(
            box(x, y, 34, 10, 8 + degrees), box(0, 0, 30, 12, degrees)
        )
        torch.testing.assert_close(turned, wanted)


def cost(target: torch.Tensor, region: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
    """What `box_head_loss` asks for one region of one class; prediction [n, 5] deltas."""
    n = len(target)
    wanted = OrientedBoxCoder().encode(target, region.expand(n, 5))
    deltas = torch.cat((torch.zeros(n, 5, dtype=torch.float64), prediction.expand(n, 5)), dim=1)
    rows = zip(deltas, wanted, strict=True)
    one = torch.ones(1, dtype=torch.int64)
    logits = torch.zeros(1, 2, dtype=torch.float64)
    return torch.stack([box_head_loss(logits, d[None], one, w[None])[1] for d, w in rows])


@pytest.mark.parametrize("region_angle", [-90.0, -89.0, -45.0, 0.0, 44.0, 89.9])
@pytest.mark.parametrize("aspect", [1.0, 1.05, 1.5])
def test_the_loss_has_no_seam(region_angle: float, aspect: float) -> None:
    """Turn a target in small steps by a whole turn: what it costs changes in small steps.

    Through +-90 degrees, where its name jumps, and through every place where another name of it
    comes nearer to the region; for a prediction of nothing, and for one that is a little off.
    """
    angles = torch.arange(-180, 180, 0.5, dtype=torch.float64)
    target = box(2, -1, 20 * aspect, 20, 0).repeat(len(angles), 1)
    # as a data set names them: the angle in [-90, 90)
    target[:, 4] = (angles + 90) % 180 - 90
    region = box(0, 0, 21, 19, region_angle)
    for prediction in (box(0, 0, 0, 0, 0), box(0.1, -0.2, 0.05, 0.1, 0.2)):
        costs = cost(target, region, prediction)
        # half a degree is 0.0087 radians, times the weight 10 at the steepest
        assert costs.diff().abs().max() < 0.1
        # and half a turn, or a quarter with the sides exchanged, costs the same
        torch.testing.assert_close(costs[:360], costs[360:], rtol=0, atol=1e-9)
        renamed = torch.cat(
            (target[:, :2], target[:, [3, 2]], ((target[:, 4] + 180) % 180 - 90)[:, None]), dim=1
        )
        torch.testing.assert_close(cost(renamed, region, prediction), costs, rtol=0, atol=1e-9)


def test_of_a_positive_region_the_name_that_jumps_is_never_the_nearer() -> None:
    """Every region that a head may learn from, against its box: the nearer name's turn is small."""
    boxes, regions = some(60, 3), some(4000, 4)
    boxes[:, :2] = regions[:, :2] = 25
    iou = box_iou(regions, boxes, fmt="cxcywhr")
    region, target = torch.where(iou >= 0.5)
    assert len(region) > 10000
    deltas = OrientedBoxCoder().encode(boxes[target], regions[region])
    size = deltas.abs().sum(dim=2)
    nearer = deltas[torch.arange(len(size)), size.argmin(dim=1)]
    # 10 is the weight of the turn: none is near 90 degrees
    assert torch.rad2deg(nearer[:, 4] / 10).abs().max() < 70


def test_gradients_of_the_turned_decoding() -> None:
    regions = some(3, 1)
    deltas = torch.randn(3, 10, dtype=torch.float64) * 0.3
    assert torch.autograd.gradcheck(
        lambda d: OrientedBoxCoder().decode(d, regions), deltas.requires_grad_()
    )


@pytest.mark.parametrize("n", [0, 1, 37])
def test_an_upright_region_gives_its_oriented_box_back(n: int) -> None:
    boxes = some(n, 0)
    regions = enclosing(boxes) + torch.randn(n, 4, dtype=torch.float64)
    coder = OrientingCoder()
    values = torch.cat((coder.encode(boxes, regions), AngleCoder().encode(boxes)), dim=1)
    found = coder.decode(values, regions)
    assert found.shape == (n, 5)
    assert (found[:, 2] >= found[:, 3]).all()
    if n:
        same_rectangle(found, boxes)


def test_orienting_by_hand() -> None:
    """A square region of side 40, and a box 40 x 10 in its middle but 4 to the right, upright."""
    region = torch.tensor([[0.0, 0, 40, 40]], dtype=torch.float64)
    for target in (box(24, 20, 10, 40, 0), box(24, 20, 40, 10, 90), box(24, 20, 40, 10, -90)):
        deltas = OrientingCoder((1.0, 1.0, 1.0, 1.0)).encode(target, region)
        torch.testing.assert_close(deltas[0], box(0.1, 0, 0, math.log(0.25))[0])


@pytest.mark.parametrize("height", [6.0, 19.9, 20.0])
def test_what_the_first_step_learns_has_no_seam(height: float) -> None:
    """A box turned by a whole turn, its sides' order exchanged on the way: small steps."""
    angles = torch.arange(-180, 180, 0.5, dtype=torch.float64)
    boxes = box(0, 0, 20, height, 0).repeat(len(angles), 1)
    boxes[:, 4] = angles
    deltas = OrientingCoder().encode(boxes, enclosing(boxes))
    assert deltas.diff(dim=0).abs().max() < 0.07
    wider, higher = box(0, 0, 20.001, 20, 33), box(0, 0, 20, 20.001, 33)
    region = box_convert(box(0, 0, 28, 28), "cxcywh", "xyxy")
    torch.testing.assert_close(
        OrientingCoder().encode(wider, region), OrientingCoder().encode(higher, region)
    )


def test_an_exploding_prediction_stays_finite() -> None:
    values = torch.full((1, 8), 1e4)
    found = OrientingCoder().decode(values, torch.tensor([[0.0, 0, 16, 16]]))
    assert found[0, 2].item() == pytest.approx(1000)  # 62.5 times 16
    deltas = torch.full((1, 5), 1e4)
    found = OrientedBoxCoder().decode(deltas, torch.tensor([[0.0, 0, 16, 8, 30]]))
    assert found[0, 2:4].tolist() == pytest.approx([1000, 500])
