"""Inputs of the benchmarks: made from seeds, and one recording."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# benchmarks/record_digits.py made it; only a checkout has it
DIGITS = Path(__file__).parents[2] / "benchmarks" / "data" / "digits.npz"


def boxes_like(n: int, extent: float = 1000, side: float = 100, seed: int = 0) -> Tensor:
    """[n, 4] xyxy: corners uniform in extent^2, sides uniform in 1 to side + 1 pixels."""
    g = torch.Generator().manual_seed(seed)
    low = torch.rand(n, 2, generator=g) * extent
    return torch.cat((low, low + torch.rand(n, 2, generator=g) * side + 1), dim=1)


def rotated_boxes_like(n: int, extent: float = 1000, side: float = 100, seed: int = 0) -> Tensor:
    """[n, 5] cxcywhr: centres uniform in extent^2, sides in side / 2 to 3 / 2 side, any angle."""
    part = torch.rand(n, 5, generator=torch.Generator().manual_seed(seed))
    centre, size, angle = part[:, :2] * extent, (part[:, 2:4] + 0.5) * side, part[:, 4:] * 360
    return torch.cat((centre, size, angle), dim=1)


def boxes_in_space(n: int, extent: float = 100, seed: int = 0) -> Tensor:
    """[n, 7] x, y, z, dx, dy, dz, yaw: cars on a ground of extent^2 metres, at any angle."""
    part = torch.rand(n, 7, generator=torch.Generator().manual_seed(seed))
    centre = (part[:, :3] - 0.5) * torch.tensor([extent, extent, 1])
    size = torch.tensor([3.5, 1.5, 1.4]) + part[:, 3:6] * torch.tensor([1.5, 0.6, 0.4])
    return torch.cat((centre, size, (part[:, 6:] - 0.5) * 2 * torch.pi), dim=1)


def scores_like(n: int) -> Tensor:
    """[n] uniform in 0 to 1."""
    return torch.rand(n, generator=torch.Generator().manual_seed(1))


def scattered(n: int, extent: float = 1000, side: float = 100) -> tuple[Tensor, Tensor]:
    """Boxes [n, 4] and scores [n]."""
    return boxes_like(n, extent, side), scores_like(n)


def clusters(n: int, count: int) -> tuple[Tensor, Tensor]:
    """Boxes [n, 4] in `count` places, corners off by about a pixel, and scores [n]."""
    g = torch.Generator().manual_seed(2)
    boxes = boxes_like(count)[torch.randint(0, count, (n,), generator=g)]
    boxes = boxes + torch.randn(n, 4, generator=g)
    # the smallest ones may have turned inside out, which libraries read differently
    low = torch.minimum(boxes[:, :2], boxes[:, 2:])
    return torch.cat((low, torch.maximum(boxes[:, :2], boxes[:, 2:])), dim=1), scores_like(n)


def overlapping(n: int) -> tuple[Tensor, Tensor]:
    """Boxes [n, 4] that all hold one point in common, and scores [n]."""
    return boxes_like(n, 10, 10) + torch.tensor([0, 0, 500, 500]), scores_like(n)


def equally_scored(n: int) -> tuple[Tensor, Tensor]:
    """Boxes [n, 4] and n times one score."""
    return boxes_like(n), torch.full((n,), 0.5)


def classes(n: int, count: int) -> Tensor:
    """[n] int64 class ids below count."""
    return torch.randint(0, count, (n,), generator=torch.Generator().manual_seed(3))


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A trained YOLO's candidates on 32 pictures: boxes [n, 4], scores, labels, images [n]."""
    with np.load(DIGITS) as recording:
        box, score, label, image = (
            torch.from_numpy(recording[key]) for key in ("box", "score", "label", "image")
        )
    return box, score, label.long(), image.long()


def digits_batch() -> tuple[Tensor, Tensor, Tensor]:
    """All pictures' boxes, scores, and one id for each class of each picture."""
    box, score, label, image = digits()
    return box, score, image * 10 + label


def digits_one() -> tuple[Tensor, Tensor]:
    """Boxes and scores, all classes, of the picture that has the most."""
    box, score, _, image = digits()
    of_one = image == image.bincount().argmax()
    return box[of_one], score[of_one]


def rpn_anchors() -> Tensor:
    """[n, 4] an RPN's on 800 x 1,088 pixels: three shapes per cell, five levels."""
    levels = []
    for stride in (4, 8, 16, 32, 64):
        y, x = torch.meshgrid(
            torch.arange(0.0, 800, stride), torch.arange(0.0, 1088, stride), indexing="ij"
        )
        sides = 8 * stride * torch.tensor([[0.7, 1.4], [1.0, 1.0], [1.4, 0.7]])
        half = torch.cat((-sides, sides), dim=1) / 2
        levels.append((torch.stack((x, y, x, y), dim=-1)[:, :, None] + half).reshape(-1, 4))
    return torch.cat(levels)


def pyramid(rois: int = 1000) -> tuple[Tensor, Tensor]:
    """A map [2, 256, 200, 272] of two 800 x 1,088 pictures at stride 4, and RoIs [rois, 5]."""
    g = torch.Generator().manual_seed(8)
    input = torch.randn(2, 256, 200, 272, generator=g)
    boxes = boxes_like(rois, 700, 300)
    boxes = torch.minimum(boxes, torch.tensor([1088.0, 800, 1088, 800]))
    image = torch.randint(0, 2, (rois, 1), generator=g).float()
    return input, torch.cat((image, boxes), dim=1)
