"""Oriented boxes as what a two-stage detector learns: against an upright region, then a turned one.

Boxes and turned regions are [N, 5] cxcywhr: centre, width and height in pixels, degrees.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from detcore.ops.box_codec import CLIP

from .angle_coder import CODE_VALUES, AngleCoder
from .box_forms import longer_side_first

ORIENTING_VALUES = 4 + CODE_VALUES


class OrientingCoder:
    """An oriented box against an upright region: four deltas, and the angle by `AngleCoder`.

    An upright region has no angle to measure one from, so the angle is coded as it is, without a
    seam. To go with that the width is the longer side, whatever its name: the longer and the
    shorter side change steadily as a rectangle turns, and as its sides exchange their order.

    Centre and sides are measured in the root mean square of the region's sides. Of the rectangles
    around one turning box that length changes least: for an object three times as long as wide by
    a quarter, where each side alone goes from the shorter to the longer one and back.

    weights: what the deltas (dx, dy, dw, dh) are multiplied by, as in `BoxCoder`.
    """

    def __init__(self, weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0)) -> None:
        self.weights = tuple(weights)

    def encode(self, boxes: Tensor, regions: Tensor) -> Tensor:
        """Deltas [N, 4] of boxes [N, 5] against regions [N, 4] (xyxy, pixels).

        The angle's code is compared with the box itself, by `angle_loss`.
        """
        centre, side = _square(regions)
        sides = longer_side_first(boxes)[:, 2:4]
        deltas = torch.cat(((boxes[:, :2] - centre) / side, (sides / side).log()), dim=1)
        return deltas * deltas.new_tensor(self.weights)

    def decode(self, values: Tensor, regions: Tensor) -> Tensor:
        """Boxes [N, 5] of values [N, 8], four deltas and a code, against regions [N, 4]."""
        centre, side = _square(regions)
        deltas = values[:, :4] / values.new_tensor(self.weights)
        sides = deltas[:, 2:].clamp(max=CLIP).exp() * side
        angle = AngleCoder().decode(values[:, 4:])
        return torch.cat((centre + deltas[:, :2] * side, sides, angle[:, None]), dim=1)


class OrientedBoxCoder:
    """An oriented box against a turned region that is near it: five deltas in the region's frame.

    (dx, dy) is the way to the box's centre along the region's width and height, in these; dw, dh
    are the logarithms of the ratios of the sides; the turn is in radians. (As in RoI Transformer,
    Ding et al., CVPR 2019.) Each is multiplied by its weight.

    A rectangle has two names in each half turn: the second one exchanges the sides and adds a
    quarter. `encode` gives both, each with its turn in [-90, 90) degrees, and the loss takes the
    one that is nearer to the prediction (as Qian et al., RSDet, AAAI 2021, do). So nothing that
    changes a little costs much more or less. Where one name's turn jumps from 90 to -90 degrees,
    the other name's turn is 0, and that name is the nearer one: a head learns from regions whose
    IoU with the box is 0.5 at least, so that in line with the region both sides fit within a factor
    of 2. That costs at most 2 log(2), the turn that jumps pi / 2, each times its weight. Near a
    square, whose names are alike, no more than 45 degrees are to be learned.

    weights: of (dx, dy, dw, dh, turn). An error of the turn moves the ends of the longer side, in
    heights, by half the aspect ratio times it: with the same weight as dy it counts as much as
    that would for an object twice as long as wide.
    """

    def __init__(self, weights: Sequence[float] = (10.0, 10.0, 5.0, 5.0, 10.0)) -> None:
        self.weights = tuple(weights)

    def encode(self, boxes: Tensor, regions: Tensor) -> Tensor:
        """Deltas [N, 2, 5] of boxes [N, 5] against regions [N, 5]: of each name of a box."""
        way = _turned(boxes[:, :2] - regions[:, :2], regions[:, 4], 1)
        shift = (way / regions[:, 2:4])[:, None].expand(-1, 2, -1)
        sides = torch.stack((boxes[:, 2:4], boxes[:, [3, 2]]), dim=1)
        turn = (boxes[:, 4] - regions[:, 4])[:, None] + boxes.new_tensor([0.0, 90.0])
        turn = (turn + 90) % 180 - 90
        ratio = (sides / regions[:, None, 2:4]).log()
        deltas = torch.cat((shift, ratio, torch.deg2rad(turn)[..., None]), dim=2)
        return deltas * deltas.new_tensor(self.weights)

    def decode(self, deltas: Tensor, regions: Tensor) -> Tensor:
        """Boxes [N, 5k] of deltas [N, 5k] against regions [N, 5], k boxes of each region."""
        split = deltas.unflatten(1, (-1, 5)) / deltas.new_tensor(self.weights)
        regions = regions[:, None]
        way = _turned(split[..., :2] * regions[..., 2:4], regions[..., 4], -1)
        sides = split[..., 2:4].clamp(max=CLIP).exp() * regions[..., 2:4]
        angle = regions[..., 4] + torch.rad2deg(split[..., 4])
        angle = (angle + 90) % 180 - 90
        boxes = torch.cat((regions[..., :2] + way, sides, angle[..., None]), dim=2)
        return boxes.flatten(1)


def _square(regions: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [N, 2] of upright regions, and the root mean squares of their sides [N, 1]."""
    sides = regions[:, 2:] - regions[:, :2]
    centre = (regions[:, :2] + regions[:, 2:]) / 2
    return centre, sides.norm(dim=1, keepdim=True) / math.sqrt(2)


def _turned(way: Tensor, degrees: Tensor, direction: int) -> Tensor:
    """Vectors [..., 2] from the image's axes to those of boxes of these angles; -1: back again."""
    turned = torch.deg2rad(degrees)
    # of a box's width the direction is (cos, -sin) in x and y, of its height (sin, cos)
    cos, sin = turned.cos(), turned.sin() * direction
    x, y = way[..., 0], way[..., 1]
    return torch.stack((x * cos - y * sin, x * sin + y * cos), dim=-1)
