"""Lines of KITTI's label and result files as arrays, for the reader and for the evaluation.

A line is one object: ``type truncated occluded alpha left top right bottom h w l x y z rotation_y``
and in result files ``score`` (object development kit, readme.txt).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from detcore import ops
from detcore.data.faults import Faults, Kind

Floats = NDArray[np.float64]
PLANAR, LABEL, RESULT = 8, 15, 16  # columns up to the 2D box, of a label, of a result
DONT_CARE = "dontcare"  # in any letter case
_NAMES = (
    *("truncated", "occluded", "alpha", "left", "top", "right", "bottom"),
    *("h", "w", "l", "x", "y", "z", "rotation_y", "score"),
)
_BOX, _SPACE = slice(3, 7), slice(7, 14)


@dataclass(frozen=True)
class KittiObjects:
    """The n objects of one file, in its order.

    Attributes:
        file: where they stand.
        names: n types, as written.
        numbers: float64 [n, 15], the columns behind the type; NaN where a label has none, as the
            last one, the score.
        lines: n numbers of lines, from 1.
    """

    file: Path
    names: tuple[str, ...]
    numbers: Floats
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def truncated(self) -> Floats:
        """[n]: the share of an object beyond the picture's border, 0..1; -1 if unknown."""
        return self.numbers[:, 0]

    @property
    def occluded(self) -> Floats:
        """[n]: 0 fully visible, 1 partly, 2 largely occluded, 3 unknown; -1 of DontCare."""
        return self.numbers[:, 1]

    @property
    def alpha(self) -> Floats:
        """[n]: the angle of observation, radians; -10 if unknown."""
        return self.numbers[:, 2]

    @property
    def boxes(self) -> Floats:
        """[n, 4]: xyxy, pixels."""
        return self.numbers[:, _BOX]

    @property
    def heights(self) -> Floats:
        """[n]: of the boxes in the picture, pixels; negative where bottom is above top."""
        return self.numbers[:, 6] - self.numbers[:, 4]

    @property
    def place(self) -> Floats:
        """[n, 3]: x, y, z of the bottom's centre in the camera's coordinates, metres.

        x points right, y down, z forward; all are -1000 where there is no box in space.
        """
        return self.numbers[:, 10:13]

    @property
    def score(self) -> Floats:
        """[n]: confidence, of results."""
        return self.numbers[:, 14]

    @property
    def is_dont_care(self) -> NDArray[np.bool_]:
        """[n]: whether a line is a region where nothing was annotated."""
        return self.is_a(DONT_CARE)

    def is_a(self, name: str) -> NDArray[np.bool_]:
        """[n]: whether the type is this one, in any letter case, as the devkit compares."""
        return np.array([own.lower() == name.lower() for own in self.names], bool)

    def boxes3d(self) -> Floats:
        """[n, 7]: x, y, z, dx, dy, dz, yaw as `detcore.ops.box3d_iou` takes them.

        x is the camera's forward, y its left, z its up. Placeholders are converted as the numbers
        that they are: their sides stay negative.
        """
        kitti = torch.from_numpy(np.ascontiguousarray(self.numbers[:, _SPACE]))
        boxes: Floats = ops.box3d_convert(kitti, "kitti", "centre").numpy()
        return boxes

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> KittiObjects:
        """Some of them, by their rows."""
        names = tuple(self.names[k] for k in rows)
        lines = tuple(self.lines[k] for k in rows)
        numbers = self.numbers[np.asarray(rows, np.int64)]
        return KittiObjects(self.file, names, numbers, lines)


def parse_objects(
    file: Path, lines: Sequence[str], faults: Faults, columns: int = PLANAR
) -> KittiObjects:
    """The objects in the lines of a file; empty lines are passed over.

    Args:
        file: whose lines these are, for messages.
        lines: without their ends.
        faults: takes up what can't be used, and the line is left out where that doesn't raise.
        columns: how many a line must have. `PLANAR`: the box in the picture is enough. Of the other
            numbers those that are bad are noted and become NaN, all seven of a box in space
            together. `LABEL`, `RESULT`: all of them must be finite numbers. What stands behind
            these columns is not looked at.
    """
    found: list[tuple[int, str, Floats]] = []
    for number, line in enumerate(lines, start=1):
        if words := line.split():
            values = _parsed(words, columns, (file, f"line {number}"), faults)
            if values is not None:
                found.append((number, words[0], values))
    return KittiObjects(
        file,
        names=tuple(name for _, name, _ in found),
        numbers=np.array([values for *_, values in found]).reshape(-1, len(_NAMES)),
        lines=tuple(number for number, *_ in found),
    )


def _parsed(
    words: list[str], columns: int, place: tuple[Path, str], faults: Faults
) -> Floats | None:
    """The numbers of a line [15], NaN where there are none; None if it can't be used."""
    file, where = place
    if len(words) < columns:
        wanted = max(columns, LABEL)
        faults.refuse(Kind.ENTRY, file, f"{where} has {len(words)} columns, wanted {wanted}")
        return None
    values = _numbers(words[1 : max(columns, LABEL)])
    if not np.isfinite(values[_BOX]).all():
        text = f"{where} has box {' '.join(words[4:8])}, wanted four numbers"
        faults.refuse(Kind.NOT_FINITE, file, text)
        return None
    bad = [k for k, _ in enumerate(words[1 : max(columns, LABEL)]) if np.isnan(values[k])]
    if bad and columns > PLANAR:
        text = f"{where} has {_NAMES[bad[0]]} {words[bad[0] + 1]}, wanted a finite number"
        faults.refuse(Kind.NOT_FINITE, file, text)
        return None
    if bad:
        text = f"{where} has {_NAMES[bad[0]]} {words[bad[0] + 1]}, wanted a finite number; left out"
        faults.left_out(Kind.LABEL_3D, file, text)
    elif PLANAR < len(words) < LABEL:
        text = f"{where} has {len(words)} columns, wanted {LABEL}; its 3D box is left out"
        faults.left_out(Kind.LABEL_3D, file, text)
    if np.isnan(values[_SPACE]).any():
        values[_SPACE] = np.nan
    return values


def _numbers(words: Sequence[str]) -> Floats:
    """[15]; NaN where a word is no finite number, and beyond the last one."""
    values = np.full(len(_NAMES), np.nan)
    for k, word in enumerate(words):
        try:
            number = float(word)
        except ValueError:
            continue
        if math.isfinite(number):
            values[k] = number
    return values
