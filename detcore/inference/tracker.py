"""Identity of boxes from frame to frame of a video.

After SORT (Bewley et al., ICIP 2016: motion and Hungarian assignment by IoU) and ByteTrack (Zhang
et al., ECCV 2022: sure detections first, then unsure ones), simplified: in place of a Kalman filter
a box keeps its size and moves on with the mean velocity of its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from detcore import ops
from detcore.inference.predictor import Prediction
from detcore.parts.box_forms import centres, format_of, shifted
from detcore.utils.optional_imports import require

NOBODY = -1  # the number of a detection without an identity

_NEW = 0.5  # weight of the last step in a velocity


@dataclass
class _Track:
    number: int
    label: int
    box: Tensor  # [4] xyxy or [5] cxcywhr, pixels, where it was last seen
    velocity: Tensor  # [2] of its centre, pixels a frame
    seen: int = 1  # sightings
    unseen: int = 0  # frames since the last one

    def expected(self) -> Tensor:
        """[4 or 5] where it should be in the next frame."""
        return shifted(self.box, *(self.velocity * (self.unseen + 1)).tolist())

    def meet(self, box: Tensor) -> None:
        step = (centres(box) - centres(self.box)) / (self.unseen + 1)
        self.velocity = step if self.seen == 1 else torch.lerp(self.velocity, step, _NEW)
        self.box, self.seen, self.unseen = box, self.seen + 1, 0


class Tracker:
    """Numbers the objects of one video, frame by frame.

    In each frame, class by class:

    1. The detections at or above `start` go to the tracks, each moved to where it should be now, so
       that the sum of IoUs is greatest; a pair below `iou` is none.
    2. The detections below `start` go in the same way to the tracks that are left and were seen in
       the frame before: an object half hidden keeps its number.
    3. What of the sure detections is left starts new tracks, with the numbers from 1 on.
    4. A track not seen for more than `patience` frames ends; its number is not used again.

    Args:
        iou: least IoU of a detection with the place where a track should be, above 0 to 1.
        start: least confidence that starts a track. patience: frames.

    Raises ValueError for other values. Deterministic.
    """

    def __init__(self, *, iou: float = 0.3, start: float = 0.5, patience: int = 15) -> None:
        if not 0 < iou <= 1:
            raise ValueError(f"Tracker: iou must be above 0 and at most 1, got {iou}")
        if patience < 0:
            raise ValueError(f"Tracker: patience must be at least 0, got {patience}")
        self.iou, self.start, self.patience = iou, start, patience
        self._tracks: list[_Track] = []
        self._last = 0

    def update(self, prediction: Prediction) -> Tensor:
        """Take up the next frame.

        Args:
            prediction: a detector's, as `detcore.inference.predictor` gives it: ``boxes``
                ``[n, 4]`` xyxy or ``[n, 5]`` cxcywhr in pixels, ``scores`` ``[n]``, ``labels``
                ``[n]``.

        Returns:
            int64 ``[n]``: each detection's number, or `NOBODY` for an unsure one of no track.
        """
        boxes = prediction["boxes"].detach().double().cpu()
        labels = prediction["labels"].tolist()
        sure = [score >= self.start for score in prediction["scores"].tolist()]
        numbers = torch.full((len(boxes),), NOBODY)
        steady = [t for t in self._tracks if t.unseen == 0]
        for wanted, tracks in ((True, self._tracks), (False, steady)):
            open_to_it = [t for t in tracks if t.number not in numbers]
            rows = [k for k, is_sure in enumerate(sure) if is_sure == wanted]
            gain = self._gain(open_to_it, boxes[rows], [labels[k] for k in rows])
            for place, row in _assign(gain):
                numbers[rows[row]] = open_to_it[place].number
        row_of = {number: row for row, number in enumerate(numbers.tolist()) if number != NOBODY}
        for track in self._tracks:
            if track.number in row_of:
                track.meet(boxes[row_of[track.number]])
            else:
                track.unseen += 1
        self._tracks = [t for t in self._tracks if t.unseen <= self.patience]
        for row, is_sure in enumerate(sure):
            if is_sure and numbers[row] == NOBODY:
                self._last += 1
                numbers[row] = self._last
                still = torch.zeros(2, dtype=torch.float64)
                self._tracks.append(_Track(self._last, labels[row], boxes[row], still))
        return numbers

    def _gain(self, tracks: Sequence[_Track], boxes: Tensor, labels: list[int]) -> Tensor:
        """[tracks, boxes] IoU of what may be a pair, 0 for all else."""
        if not tracks or not len(boxes):
            return torch.zeros(len(tracks), len(boxes))
        expected = torch.stack([t.expected() for t in tracks])
        overlap = ops.box_iou(expected, boxes, fmt=format_of(boxes))
        same = torch.tensor([[t.label == label for label in labels] for t in tracks])
        return torch.where(same & (overlap >= self.iou), overlap, 0.0)


def _assign(gain: Tensor) -> list[tuple[int, int]]:
    """Rows and columns of the assignment with the greatest sum, pairs of gain 0 left out."""
    if not gain.numel():
        return []
    optimize: Any = require("scipy.optimize", "scipy")
    rows, columns = optimize.linear_sum_assignment(gain.numpy(), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in pairs if gain[row, column] > 0]
