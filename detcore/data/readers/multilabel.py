"""Classification with any number of classes per image, from a CSV or a JSON file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detcore.data.base import ClassificationDataset, Transform, log
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in
from detcore.data.images import IMAGE_SUFFIXES, read_image
from detcore.data.readers.file_finder import files_of_split
from detcore.data.splits import hashed_split, no_split, part
from detcore.utils.user_files import csv_rows, read_json

_LISTS = ("labels", "label", "tags")  # columns of names
_SEPARATORS = ";|,"  # the first that a file has separates its names
_FIRST = 20  # pictures that tell where all are


class MultiLabel(ClassificationDataset):
    """Images of which each shows none, one or several classes.

    Args:
        source: a file in one of the forms below, or a folder that holds some: one whose name has
            the split in it (``val.csv``, ``labels_val.json``), or a single one.
        split: taken from the file's ``split`` column or key, if it has one. Otherwise a file that
            is named itself is taken whole; of a folder's single file ``train`` and ``val`` are 80%
            and 20%, by a hash of the file names.
        classes: their names in label order; None takes the file's (columns and ``classes`` in
            their order, names in lists sorted).
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.

    CSV, with a header: a file and its names, ``file,labels`` (or ``label`` or ``tags``) and rows
    such as ``a.jpg,cat;dog``, or a column per class, ``file,cat,dog`` and rows like ``a.jpg,1,0``.
    Names are separated by ``;``, in a file that has none by ``|``, and in one without either by
    ``,`` in quotes (``a.jpg,"cat,dog"``); there may be spaces in them. JSON: ``{"classes": ["cat",
    "dog"], "images": [{"file": "a.jpg", "labels": ["cat"]}]}``. Files are named from the folder of
    the CSV or JSON, or from ``images/`` in it.

    An item's ``labels`` is int64 ``[classes]`` of 0 and 1.

    Raises:
        DataError: no such file, malformed rows, an unknown class, no picture found.
        NoSplit: no such split.
    """

    multilabel = True

    def __init__(
        self,
        source: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        val_share: float | None = None,
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.faults = Faults() if faults is None else faults
        self.file, share = _file_for(Path(source), split, val_share)
        reader = _read_json if self.file.suffix.lower() == ".json" else _read_csv
        named, rows = reader(self.file, self.faults)
        named = list(named if classes is None else classes)
        super().__init__(named, transforms)
        if not named:
            raise DataError(f"{self.file}: it has no classes")
        self.whole = Path(source).is_file() and not any(row.split for row in rows)
        rows = _of_split(self.file, rows, split if any(r.split for r in rows) else share, val_share)
        self.samples: list[tuple[int, Path, Tensor]] = []
        for row in rows:
            self._take(row)
        if not self.samples:
            of = "" if self.whole else f" of split {split!r}"
            raise DataError(
                f"{self.file}: none of the {len(rows)} pictures{of} is in "
                f"{self.file.parent} or its images/"
            )
        self.problems = [str(fault) for fault in self.faults]
        if not self.faults.tolerant:
            for line in self.problems:
                log.warning("%s", line)

    def _take(self, row: _Row) -> None:
        path = _picture(self.file, row.file)
        if path is None:
            text = "picture is missing; left out"
            self.faults.left_out(Kind.MISSING, self.file.parent / row.file, text)
            return
        hot = torch.zeros(len(self.classes), dtype=torch.int64)
        for name in row.labels:
            if name in self.classes:
                hot[self.classes.index(name)] = 1
            else:
                text = f"{row.file} has label {name!r}, which is not one of its classes"
                self.faults.refuse(Kind.UNKNOWN_CLASS, self.file, text)
        self.samples.append((row.number, path, hot))

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Tensor:
        """One image as uint8 [3, H, W], RGB. Raises DamagedImage if it cannot be decoded."""
        return read_image(self.path(index))

    def label(self, index: int) -> Tensor:
        """[C] of 0 and 1: which of `classes` the image shows."""
        return self.samples[index][2].clone()

    def image_id(self, index: int) -> int:
        """A number that stays the same for a file when images are left out."""
        return self.samples[index][0]

    def path(self, index: int) -> Path:
        """The file of one image."""
        return self.samples[index][1]


@dataclass(frozen=True)
class _Row:
    number: int  # from 1, among all of the file
    file: str
    labels: tuple[str, ...]
    split: str  # "" where the file doesn't say


def _picture(file: Path, name: str) -> Path | None:
    folders = (file.parent, file.parent / "images")
    return next((p for f in folders if isfile(p := f / name)), None)


def is_multilabel(file: Path) -> bool:
    """Whether a file, to judge by its suffix and the keys in it, is in one of the two forms.

    Of a large file the first megabyte tells: a COCO file of 500 MB is not parsed to find out.
    """
    if file.suffix.lower() == ".csv":
        return True
    if file.suffix.lower() != ".json":
        return False
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        text = stream.read(1 << 20 if file.stat().st_size > 1 << 24 else -1)
    coco = b'"annotations"' in text or b'"categories"' in text
    return b'"classes"' in text and b'"images"' in text and not coco


def is_multilabel_folder(root: Path) -> bool:
    """Whether a folder holds such a file, whose pictures lie beside it or in ``images/``.

    Not those in folders per class: a table that lists them too is no reason to read it instead.
    """
    return any(is_multilabel(file) and _lists_pictures(file) for file in files_in(root, "*"))


def _lists_pictures(file: Path) -> bool:
    try:
        if file.suffix.lower() == ".json":
            names = [row.file for row in _read_json(file, Faults(tolerant=True))[1]]
        else:
            names = [cells[0] for cells in _table(file)[1:]]
    except DataError:
        return False
    found = (_picture(file, name) for name in names[:_FIRST])
    places = (file.parent, file.parent / "images")
    return any(path is not None and path.parent in places for path in found)


def _file_for(source: Path, split: str, val_share: float | None) -> tuple[Path, str]:
    """The file, and the split to take of it."""
    if source.is_file():
        return source, "all"
    if not source.is_dir():
        raise DataError(f"{source}: no such .csv or .json file, nor a folder that holds one")
    files = [f for f in files_in(source, "*") if is_multilabel(f)]
    if not files:
        raise DataError(f"{source}: no .csv or .json with an image's labels in it")
    found, share = files_of_split(source, files, split, "label", val_share)
    if len(found) > 1:
        raise no_split(source, split, [f.name for f in found], "single file")
    return found[0], share


def _of_split(file: Path, rows: list[_Row], split: str, val_share: float | None) -> list[_Row]:
    if split == "all":
        return rows
    own: dict[str, list[_Row]] = {}
    for row in rows:
        own.setdefault(row.split, []).append(row)
    if any(own):
        own.pop("", None)
        return part(own, split, file, name_of=lambda row: row.file, val_share=val_share)
    keep = set(hashed_split((r.file for r in rows), split, file, val_share))
    return [row for row in rows if row.file in keep]


def _table(file: Path) -> list[list[str]]:
    """The rows of a CSV, its header first."""
    table = [[cell.strip() for cell in row] for _, row in csv_rows(file) if any(row)]
    if not table or len(table[0]) < 2 or table[0][0].lower().endswith(IMAGE_SUFFIXES):
        raise DataError(
            f"{file}: wanted a header: 'file' and one of {_or(_LISTS)}, or 'file' and a column a "
            f"class"
        )
    return table


def _read_csv(file: Path, faults: Faults) -> tuple[list[str], list[_Row]]:
    table = _table(file)
    header = table[0]
    at_split = header.index("split") if "split" in header else -1
    at = [k for k in range(1, len(header)) if k != at_split]
    listed = len(at) == 1 and header[at[0]].lower() in _LISTS
    separator = _separator(row[k] for row in table[1:] if len(row) == len(header) for k in at)
    rows, names = [], [header[k] for k in at]
    for number, cells in enumerate(table[1:], start=1):
        if len(cells) != len(header):
            text = f"row {number} has {len(cells)} columns, the header {len(header)}"
            faults.refuse(Kind.ENTRY, file, text)
            continue
        values = [cells[k] for k in at]
        if listed:
            labels = tuple(n.strip() for n in values[0].split(separator) if n.strip())
        elif set(values) <= {"0", "1"}:
            labels = tuple(n for n, value in zip(names, values, strict=True) if value == "1")
        else:
            wrong = next(v for v in values if v not in ("0", "1"))
            text = f"row {number} has {wrong!r}, wanted 0 or 1 in the column of a class (names are "
            faults.refuse(Kind.ENTRY, file, f"{text}read from a single column {_or(_LISTS)})")
            continue
        rows.append(_Row(number, cells[0], labels, cells[at_split] if at_split > 0 else ""))
    if listed:
        names = sorted({name for row in rows for name in row.labels})
    return names, rows


def _separator(cells: Iterable[str]) -> str:
    there = set().union(*cells)
    return next((s for s in _SEPARATORS if s in there), _SEPARATORS[0])


def _or(names: Sequence[str]) -> str:
    return " or ".join(map(repr, names))


def _read_json(file: Path, faults: Faults) -> tuple[list[str], list[_Row]]:
    document = read_json(file)
    for key in ("classes", "images"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise DataError(
                f"{file}: it has no list {key!r}, wanted "
                f'{{"classes": ["cat"], "images": [{{"file": "a.jpg", "labels": ["cat"]}}]}}'
            )
    rows = []
    for number, entry in enumerate(document["images"], start=1):
        if _is_entry(entry):
            labels = tuple(map(str, entry["labels"]))
            rows.append(_Row(number, str(entry["file"]), labels, str(entry.get("split", ""))))
        else:
            text = f"image {number} is {str(entry)[:60]}, wanted 'file' and a list 'labels'"
            faults.refuse(Kind.ENTRY, file, text)
    return [str(name) for name in document["classes"]], rows


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and "file" in entry and isinstance(entry.get("labels"), list)
