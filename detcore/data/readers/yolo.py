"""Detection in YOLO's form: one text file per picture, one line per object, shares of the sides."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from os.path import isfile
from pathlib import Path

import numpy as np

from detcore.data.base import FileDetection, Record, Transform
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in, is_picture, walk
from detcore.data.oriented import (
    Floats,
    are_boxes,
    corners_of,
    smallest_rectangle,
    upright_corners,
)
from detcore.data.readers.yolo_plan import (
    YAML_SUFFIXES,
    description_in,
    listing_in,
    name_from,
    plan_of,
)
from detcore.utils.user_files import read_text, read_yaml

_TEXTS = ("*.txt", "labels/*.txt", "labels/*/*.txt", "*/labels/*.txt")
# class from 0; in shares of the sides left, top, right, bottom, or x and y of three points or more
_Line = tuple[int, list[float]]


class YoloText(FileDetection):
    """A detection set in the text form of Darknet's and Ultralytics' trainers.

    Args:
        root: a description such as ``data.yaml`` (``names``, and ``train``, ``val``, ``test``: a
            folder of pictures, a .txt that lists them, or a list of these, from ``path``), or the
            folder that holds it. Or a folder with names alone (the description's, or a name a line
            in ``classes.txt`` or ``obj.names``) and the pictures in ``images/<split>/``,
            ``<split>/images/``, ``images/`` or beside their texts; lists such as ``train.txt`` and
            those that Darknet's ``obj.data`` names come before these folders.
        split: ``train``, ``val``, ``test``; where the set has no splits of its own, ``train`` and
            ``val`` are 80% and 20% by a hash of the file name. ``all`` takes every picture.
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
        oriented: give corners: a line's four (YOLO-OBB's form), those of the smallest rectangle
            around a polygon of another number of points, or those of an upright box.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.

    A picture's objects are in the file of its name with ``.txt``, in the folder of its own with
    the last ``images`` in it made ``labels``, or beside it; without one it shows none. A line is
    class from 0, centre x and y, width, height, and perhaps a confidence, which is passed over; or
    class and the corners x y of a polygon of three points or more, whose box is taken; or, where
    the description has ``kpt_shape``, class, box and keypoints. Label ``i + 1`` is name ``i``.

    Raises:
        DataError: no description or names, no pictures, a line that can't be read, or a class
            without a name.
        NoSplit: no such split.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        val_share: float | None = None,
        oriented: bool = False,
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root = Path(root)
        plan = plan_of(self.root, split)
        super().__init__(plan.classes, transforms, faults)
        self.keypoints, self.oriented = plan.keypoints, oriented
        for picture in plan.pictures(split, val_share):
            lines = self._lines(_text_of(picture))
            name = name_from(picture, plan.base)
            record = _oriented_record if oriented else _record
            self.take(picture, picture, partial(record, len(self) + 1, lines, name))
        self.finish(self.root, split)

    def _lines(self, file: Path | None) -> list[_Line]:
        """The lines that can be used."""
        if file is None:
            return []
        lines = enumerate(self.lines_of(file), start=1)
        read = (self._line(file, k, text) for k, text in lines if text.strip())
        return [line for line in read if line]

    def _line(self, file: Path, number: int, text: str) -> _Line | None:
        where = f"line {number} is {text.strip()!r}"
        try:
            label, numbers = _class_of(text.split()[0]), np.array(text.split()[1:], np.float64)
        except (ValueError, OverflowError):
            self.faults.refuse(Kind.ENTRY, file, f"{where}, wanted a class and numbers")
            return None
        if self.keypoints and len(numbers) == 4 + self.keypoints:
            numbers = numbers[:4]
        if len(numbers) not in (4, 5) and (len(numbers) < 6 or len(numbers) % 2):
            wanted = "wanted class, centre x, centre y, width, height, or class and a polygon"
            self.faults.refuse(Kind.ENTRY, file, f"{where}, {wanted}")
            return None
        if not np.isfinite(numbers).all():
            self.faults.refuse(Kind.NOT_FINITE, file, f"{where}, wanted finite numbers")
            return None
        if label >= len(self.classes):
            text = f"{where}, but there are {len(self.classes)} classes, from 0"
            self.faults.refuse(Kind.UNKNOWN_CLASS, file, text)
            return None
        left, top, right, bottom = box = _box(numbers)
        if max(np.abs(box)) > 2:
            self.faults.refuse(Kind.ENTRY, file, f"{where}, wanted shares of the sides, not pixels")
            return None
        polygon = numbers if self.oriented and len(numbers) > 5 else None
        # points on a line are so in shares as in pixels
        flat = polygon is not None and not are_boxes(_outline(polygon)[None])[0]
        if flat or not (right > left and bottom > top):
            self.faults.left_out(Kind.NO_AREA, file, f"{where}, without area; left out")
            return None
        return label, box if polygon is None else polygon.tolist()


def is_yolo(root: Path) -> bool:
    """Whether a folder, or a .yaml file, is a set of this form."""
    if root.is_file():
        return root.suffix.lower() in YAML_SUFFIXES
    file = description_in(root)
    if _has_object(root) or (file is not None and "train" in (read_yaml(file) or {})):
        return True
    named = file is not None or listing_in(root) is not None
    return named and any(_text_of(p) for p in islice(walk(root), 200) if is_picture(p))


def _has_object(root: Path) -> bool:
    """Whether one of the first texts in a folder has an object in its first line."""
    for file in islice(files_in(root, *_TEXTS), 20):
        try:
            words = read_text(file).partition("\n")[0].split()
            numbers = [float(word) for word in words]
        except (DataError, ValueError):
            continue
        if len(numbers) >= 5 and all(abs(n) <= 2 for n in numbers[1:5]):
            return True
    return False


def _text_of(picture: Path) -> Path | None:
    """The file of a picture's objects, if there is one."""
    folders = list(picture.parent.parts)
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        folders[last] = "labels"
    for file in (Path(*folders) / f"{picture.stem}.txt", picture.parent / f"{picture.stem}.txt"):
        if isfile(file):
            return file
    return None


def _class_of(word: str) -> int:
    number = float(word)  # some tools write 0.0
    if number < 0 or number != int(number):
        raise ValueError(word)
    return int(number)


def _box(numbers: np.ndarray) -> list[float]:
    if len(numbers) in (4, 5):
        x, y, width, height = numbers[:4].tolist()
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    x, y = numbers[0::2], numbers[1::2]
    return [float(x.min()), float(y.min()), float(x.max()), float(y.max())]


def _record(number: int, lines: Sequence[_Line], name: str, size: tuple[int, int]) -> Record:
    boxes = [np.multiply(box, [*size, *size]).tolist() for _, box in lines]
    labels = [label + 1 for label, _ in lines]
    return Record.of_boxes(number, name, size, boxes, labels, [False] * len(lines))


def _oriented_record(
    number: int, lines: Sequence[_Line], name: str, size: tuple[int, int]
) -> Record:
    corners: list[Floats] = []
    for _, shares in lines:
        points = np.array(shares).reshape(-1, 2) * size
        upright = len(points) == 2
        corners.append(upright_corners(points.reshape(1, 4))[0] if upright else _outline(points))
    whole = np.array(corners).reshape(-1, 8)
    labels = [label + 1 for label, _ in lines]
    return Record.of_corners(number, name, size, whole, labels, [False] * len(lines))


def _outline(points: Floats) -> Floats:
    """[8] four points as they are, of others the corners of the smallest rectangle around them."""
    flat = points.ravel()
    return flat if len(flat) == 8 else corners_of(smallest_rectangle(flat))
