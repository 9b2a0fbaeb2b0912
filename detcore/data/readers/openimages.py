"""Open Images (Kuznetsova et al., IJCV 2020): boxes in CSV, a folder of pictures per split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from detcore.data.base import FileDetection, Record, Transform
from detcore.data.faults import DataError, Faults, Kind, NoSplit
from detcore.data.files import files_in, folders_in, is_picture
from detcore.data.splits import is_named, split_names
from detcore.utils.user_files import csv_rows

_CLASSES = "*class-descriptions-boxable.csv"
_NEEDED = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_Row = dict[str, str]


class OpenImages(FileDetection):
    """A detection set in the form of Open Images V4 to V7, whole or in part.

    Args:
        root: holds ``class-descriptions-boxable.csv`` and ``<split>-annotations-bbox.csv`` (with
            or without ``oidv6-`` or ``oidv7-`` before their names), there or in ``annotations/``
            or ``csv/``; the pictures are ``<ImageID>.jpg`` in ``<split>/``, ``images/<split>/`` or
            ``<split>/data/``.
        split: ``train``, ``val`` (``validation``) or ``test``.
        classes: their display names in label order; None takes all of the descriptions in the
            file's order. Boxes of other classes are left out.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.

    The items are the pictures that are there, by name: nobody has to have all 1.7 million, and
    annotations of others are counted and passed over. Boxes, in shares of the picture's sides,
    become pixels, for which each picture's header is read. Boxes of a group (``IsGroupOf``) are
    crowds. That a class was not looked for in a picture (only classes verified by people are) is
    not taken up: evaluation asks for all classes in all pictures, which is stricter than Open
    Images' own.

    Raises:
        DataError: no such folder or file, a column or number that is none, an unknown class.
        NoSplit: no annotations for the split.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root = Path(root)
        super().__init__([], transforms, faults)
        names = _descriptions(self.root)
        if classes is not None and (unknown := sorted(set(classes) - set(names.values()))):
            raise DataError(f"{self.root}: Open Images has no class {unknown[0]!r} here")
        self.name_classes(list(names.values() if classes is None else classes))
        file = _annotations(self.root, split)
        pictures = _pictures(self.root, split)
        for number, (name, rows) in enumerate(self._rows(file, pictures, names).items(), start=1):
            path = pictures[name]
            if size := self.size_of(path):
                self.add(self._record(number, path, size, rows, names, file), path)
        self.finish(self.root, split)

    def _rows(
        self, file: Path, pictures: dict[str, Path], names: dict[str, str]
    ) -> dict[str, list[_Row]]:
        rows: dict[str, list[_Row]] = {name: [] for name in sorted(pictures)}
        absent: dict[str, int] = defaultdict(int)
        for row in _table(file, _NEEDED):
            if row["LabelName"] not in names:
                text = f"image {row['ImageID']} has class {row['LabelName']!r}, not in {_CLASSES}"
                self.faults.refuse(Kind.UNKNOWN_CLASS, file, text)
            elif row["ImageID"] in rows:
                rows[row["ImageID"]].append(row)
            else:
                absent[row["ImageID"]] += 1
        if absent:
            text = f"{len(absent)} of its images aren't here, the first is {next(iter(absent))}.jpg"
            self.faults.left_out(Kind.PARTIAL, file, f"{text}; left out", len(absent))
        return rows

    def _record(
        self,
        number: int,
        path: Path,
        size: tuple[int, int],
        rows: list[_Row],
        names: dict[str, str],
        file: Path,
    ) -> Record:
        label_of = {name: i for i, name in enumerate(self.classes, start=1)}
        boxes, labels, crowds = [], [], []
        for row in rows:
            label = label_of.get(names[row["LabelName"]])
            box = self._box(row, size, file)
            if label is not None and box is not None:
                boxes.append(box)
                labels.append(label)
                crowds.append(row.get("IsGroupOf", "0") == "1")
        return Record.of_boxes(number, path.name, size, boxes, labels, crowds)

    def _box(self, row: _Row, size: tuple[int, int], file: Path) -> list[float] | None:
        try:
            x0, y0, x1, y1 = (float(row[k]) for k in ("XMin", "YMin", "XMax", "YMax"))
        except ValueError:
            x0 = y0 = x1 = y1 = float("nan")
        shown = f"image {row['ImageID']} has a box from ({row['XMin']}, {row['YMin']}) to "
        shown += f"({row['XMax']}, {row['YMax']})"
        if not np.isfinite([x0, y0, x1, y1]).all():
            self.faults.refuse(Kind.NOT_FINITE, file, f"{shown}, wanted shares of the sides")
            return None
        if not (x1 > x0 and y1 > y0):
            self.faults.left_out(Kind.NO_AREA, file, f"{shown}, which has no area; left out")
            return None
        return [x0 * size[0], y0 * size[1], x1 * size[0], y1 * size[1]]


def is_openimages(root: Path) -> bool:
    """Whether the folder holds Open Images' class descriptions."""
    return bool(_find(root, _CLASSES))


def _find(root: Path, pattern: str) -> list[Path]:
    return files_in(root, pattern, f"annotations/{pattern}", f"csv/{pattern}")


def _descriptions(root: Path) -> dict[str, str]:
    """{"/m/011k07": "Tortoise", ...} in the file's order."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    files = _find(root, _CLASSES)
    if not files:
        raise DataError(
            f"{root}: no class-descriptions-boxable.csv here, in annotations/ or in csv/"
        )
    rows = [row for _, row in csv_rows(files[0]) if row]
    if any(len(row) < 2 for row in rows) or not rows:
        raise DataError(f"{files[0]}: wanted two columns, such as /m/011k07,Tortoise")
    # V7 gave it a header
    return {row[0]: row[1] for row in rows if row[0] != "LabelName"}


def _annotations(root: Path, split: str) -> Path:
    each = _find(root, "*-annotations-bbox.csv")
    for file in each:
        if is_named(file.name.removesuffix("-annotations-bbox.csv").split("-")[-1], split):
            return file
    there = [f.name for f in each]
    raise NoSplit(
        f"{root}: no <split>-annotations-bbox.csv for split {split!r} "
        f"(there are {', '.join(there) or 'none'}; looked here, in annotations/ and in csv/)"
    )


def _pictures(root: Path, split: str) -> dict[str, Path]:
    """ImageID to file."""
    above = (root, root / "images")
    named = [f for a in above if a.is_dir() for f in folders_in(a) if is_named(f.name, split)]
    for folder in [inside for f in named for inside in (f / "data", f)]:
        if found := {f.stem: f for f in files_in(folder, "*") if is_picture(f)}:
            return found
    places = [f"{name}/data, {name}, images/{name}" for name in split_names(split)]
    raise DataError(f"{root}: no pictures (looked in {', '.join(places)})")


def _table(file: Path, needed: Sequence[str]) -> Iterator[_Row]:
    rows = csv_rows(file)
    header = next(rows, (0, []))[1]
    if missing := [c for c in needed if c not in header]:
        raise DataError(f"{file}: it has no column {missing[0]}")
    for _, cells in rows:
        if cells:
            yield {**dict.fromkeys(header, ""), **dict(zip(header, cells, strict=False))}
