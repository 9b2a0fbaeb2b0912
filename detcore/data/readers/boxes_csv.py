"""Boxes in a CSV, one per row, as TensorFlow's tutorials and Roboflow's exports have them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detcore.data.base import FileDetection, Record, Transform
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in
from detcore.data.readers.file_finder import files_of_split, find_pictures
from detcore.data.splits import hashed_split
from detcore.utils.user_files import csv_rows

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NEEDED = ("filename", "class", *_CORNERS)
_Object = tuple[int, list[float]]  # label from 1; left, top, right, bottom in pixels


class _Row(NamedTuple):
    line: int  # of the file, whose header is line 1
    picture: str
    name: str
    corners: list[str]
    size: list[str]  # width, height; "" where the file doesn't say


class BoxesCsv(FileDetection):
    """A detection set in CSV files.

    Args:
        root: a CSV, or the folder of one or of one per split, told by its name
            (``train_labels.csv``) or its folder (``train/_annotations.csv``).
        split: a CSV that is named itself is taken whole. In a folder, the file for the split is
            taken; if the folder has a single file, ``train`` and ``val`` are 80% and 20% of its
            pictures, by a hash of their names. ``all`` takes every file.
        classes: their names in label order; None takes those in all files of the folder, sorted.
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.

    The header has, in any order, ``filename``, ``class``, ``xmin``, ``ymin``, ``xmax`` and
    ``ymax`` (in pixels, right and bottom outside the box), and may have ``width`` and ``height``
    of the picture; without them its header is read. Pictures are looked for beside the CSV and in
    ``images/``. A row with neither class nor corners is a picture that shows no object; pictures
    that no row names are left alone.

    Raises:
        DataError: no such file, a row that can't be read, a class not in `classes`, no pictures.
        NoSplit: no such split.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        val_share: float | None = None,
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root, self.val_share = Path(root), val_share
        super().__init__([], transforms, faults)
        self.whole = self.root.is_file()
        files = [self.root] if self.whole else _files(self.root)
        if not files:
            raise DataError(f"{self.root}: no .csv with the columns {', '.join(_NEEDED)}")
        rows = {file: _rows(file) for file in files}
        named = {row.name for table in rows.values() for row in table if row.name}
        self.name_classes(sorted(named) if classes is None else classes)
        chosen, share = files, "all"
        if not self.whole:
            chosen, share = files_of_split(self.root, files, split, "CSV", val_share)
        for file in chosen:
            self._take(file, rows[file], share)
        self.finish(self.root, split)

    def _take(self, file: Path, rows: Sequence[_Row], share: str) -> None:
        of_picture: dict[str, list[_Row]] = defaultdict(list)
        for row in rows:
            of_picture[row.picture].append(row)
        # rows before pictures: what is wrong with them is found where no picture is
        chosen = {
            name: self._objects(file, of_picture[name])
            for name in hashed_split(of_picture, share, file, self.val_share)
        }
        pictures = find_pictures(file, list(of_picture))
        for name, objects in chosen.items():
            path, stated = pictures.of(name), _stated_size(of_picture[name][0])
            record_of = partial(_record, len(self) + 1, name, objects)
            self.take(path, path, record_of, stated)

    def _objects(self, file: Path, rows: Sequence[_Row]) -> list[_Object]:
        label_of = {name: i for i, name in enumerate(self.classes, start=1)}
        found = []
        for row in rows:
            box = self._box(file, row) if row.name or any(row.corners) else None
            if box is None:
                continue
            if row.name in label_of:
                found.append((label_of[row.name], box))
            else:
                text = f"line {row.line} has class {row.name!r}, which is not one of "
                self.faults.refuse(Kind.UNKNOWN_CLASS, file, text + ", ".join(self.classes))
        return found

    def _box(self, file: Path, row: _Row) -> list[float] | None:
        where = f"line {row.line} has the box ({', '.join(row.corners)})"
        try:
            box = [float(corner) for corner in row.corners]
        except ValueError:
            self.faults.refuse(Kind.ENTRY, file, f"{where}, wanted four numbers")
            return None
        if not np.isfinite(box).all():
            self.faults.refuse(Kind.NOT_FINITE, file, f"{where}, wanted finite numbers")
            return None
        if not (box[2] > box[0] and box[3] > box[1]):
            self.faults.left_out(Kind.NO_AREA, file, f"{where} without area; left out")
            return None
        return box


def is_boxes_csv(source: Path) -> bool:
    """Whether a file's header is of this form, or a folder holds such a file."""
    if source.is_dir():
        return bool(_files(source))
    if source.suffix.lower() != ".csv":
        return False
    try:
        header = next(csv_rows(source), (0, []))[1]
    except DataError:
        return False
    return set(_NEEDED) <= set(map(_column, header))


def _files(root: Path) -> list[Path]:
    return [f for f in files_in(root, "*.csv", "*/*.csv") if is_boxes_csv(f)]


def _column(name: str) -> str:
    return name.strip().lower()


def _rows(file: Path) -> list[_Row]:
    lines = list(csv_rows(file))
    header = list(map(_column, lines[0][1])) if lines else []
    if missing := [column for column in _NEEDED if column not in header]:
        raise DataError(f"{file}: it has no column {missing[0]!r} (wanted {', '.join(_NEEDED)})")
    rows = []
    for line, cells in lines[1:]:
        if any(cells):
            said = defaultdict(str, zip(header, map(str.strip, cells), strict=False))
            corners, size = ([said[k] for k in keys] for keys in (_CORNERS, ("width", "height")))
            rows.append(_Row(line, said["filename"], said["class"], corners, size))
    if not rows:
        raise DataError(f"{file}: it has no row under its header")
    return rows


def _stated_size(row: _Row) -> tuple[int, int] | None:
    """(width, height) in pixels, if the row says something sensible."""
    try:
        width, height = (int(float(side)) for side in row.size)
    except (ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def _record(number: int, name: str, objects: Sequence[_Object], size: tuple[int, int]) -> Record:
    labels, boxes = [label for label, _ in objects], [box for _, box in objects]
    return Record.of_boxes(number, name, size, boxes, labels, [False] * len(objects))
