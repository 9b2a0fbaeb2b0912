"""The angle of an oriented box as numbers that a network can learn."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .processes import loss_normalizer

CODE_VALUES = 4
# of a box at 0 degrees: what an untrained head should say
CODE_OF_ZERO = (1.0, 0.0, 1.0, 0.0)


class AngleCoder:
    """An angle as cosine and sine of its double and of its fourfold: no value has a seam.

    A rectangle at -89 degrees is nearly the one at 90, but the two numbers are far apart, and the
    network between them learns their mean: 0. Cosine and sine of the doubled angle are alike for
    angles half a turn apart, as the rectangle is. One seam is left: as a rectangle becomes square
    and its other side the longer one, the name of its angle jumps by a quarter turn. Cosine and
    sine of the fourfold angle don't jump there, so they say the angle up to quarter turns, and the
    double one only which of the two it is, which matters less the nearer to a square. (After the
    dual-frequency coder of Yu and Da, Phase-Shifting Coder, CVPR 2023, whose three or more phases
    of each frequency are replaced by the two of a vector.)

    encode(boxes): [..., 5] cxcywhr gives [..., 4], for the longer side's angle, whichever of its
    sides the box calls its width.

    decode(code): [..., 4] gives [...], the longer side's angle in degrees, from -90 to 90. Any
    length of the two vectors is taken. Differentiable in the fourfold angle's vector; the other one
    only decides.
    """

    def encode(self, boxes: Tensor) -> Tensor:
        """Codes [..., 4] of boxes [..., 5]."""
        width, height = boxes[..., 2], boxes[..., 3]
        doubled = torch.deg2rad(2 * (boxes[..., 4] + 90 * (height > width)))
        parts = (doubled.cos(), doubled.sin(), (2 * doubled).cos(), (2 * doubled).sin())
        return torch.stack(parts, dim=-1)

    def decode(self, code: Tensor) -> Tensor:
        """Degrees [...] of codes [..., 4]."""
        doubled = torch.atan2(code[..., 3], code[..., 2]) / 2  # up to half a turn
        agrees = doubled.cos() * code[..., 0] + doubled.sin() * code[..., 1] >= 0
        angle = torch.rad2deg(doubled) / 2  # from -45 to 45
        return torch.where(agrees, angle, angle - 90 * torch.where(angle > 0, 1.0, -1.0))


def angle_loss(codes: Tensor, boxes: Tensor) -> Tensor:
    """Loss of angle codes [P, 4] against those of the ground truths [P, 5] (cxcywhr, pixels).

    Half the squared distance of the fourfold angle's vector, and of the doubled one's, the latter
    times (w^2 - h^2) / (w^2 + h^2): a square has no longer side to name. A sum, divided by P as in
    `detcore.parts.losses`.
    """
    count = loss_normalizer(len(codes), codes.device)
    squared = F.mse_loss(codes, AngleCoder().encode(boxes), reduction="none")
    area = boxes[:, 2:4] ** 2
    long = (area[:, 0] - area[:, 1]).abs() / area.sum(dim=1).clamp(min=1e-12)
    return (squared[:, :2] * long[:, None] + squared[:, 2:]).sum() / 2 / count
