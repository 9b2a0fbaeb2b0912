"""Boxes as deltas against anchors, with a codec's weights held."""

import math
from collections.abc import Sequence

from torch import Tensor

from detcore.ops import decode_boxes, encode_boxes


class BoxCoder:
    """R-CNN's codec (Girshick et al., 2014) with its weights: `encode` and `decode` are inverse.

    weights: what the deltas (dx, dy, dw, dh) are multiplied by; larger weights make the targets
    larger, so that one loss suits them all: (10, 10, 5, 5) for a box head and SSD, ones for an RPN.
    clip: bound of dw and dh before the exponential.
    """

    def __init__(
        self,
        weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        clip: float = math.log(1000.0 / 16),
    ) -> None:
        if len(weights) != 4 or not all(w > 0 for w in weights):
            raise ValueError(f"BoxCoder: weights must be 4 positive numbers, got {list(weights)}")
        self.weights = tuple(float(w) for w in weights)
        self.clip = clip

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """boxes [N, 4] against anchors [N, 4] (xyxy, pixels) give deltas [N, 4]."""
        return encode_boxes(boxes, anchors, self.weights)

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """deltas [N, 4k] against anchors [N, 4] give boxes [N, 4k] (xyxy, pixels)."""
        return decode_boxes(deltas, anchors, self.weights, self.clip)
