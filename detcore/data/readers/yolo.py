"""Detection in YOLO's form: a text file a picture, a line an object, shares of the sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detcore.data.base import (
    SPLITS,
    FileDetection,
    Record,
    Transform,
    hashed_split,
    split_names,
)
from detcore.data.faults import DataError, Faults, Kind, NoSplit
from detcore.data.images import IMAGE_SUFFIXES

YAML_SUFFIXES = (".yaml", ".yml")
_NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt")
_TEXTS = ("*.txt", "labels/*.txt", "labels/*/*.txt", "*/labels/*.txt")
_Line = tuple[int, list[float]]  # class from 0; left, top, right, bottom in shares of the sides


class YoloText(FileDetection):
    """A detection set in the text form of Darknet's and Ultralytics' trainers.

    Args:
        root: a description such as ``data.yaml`` (``names``, and ``train``, ``val``, ``test``: a
            folder of pictures, a .txt that lists them, or a list of these, from ``path``), or the
            folder that holds it. Or a folder with names alone (the description's, or a name a line
            in ``classes.txt`` or ``obj.names``) and the pictures in ``images/<split>/``,
            ``<split>/images/``, ``images/`` or beside their texts.
        split: ``train``, ``val``, ``test``; where the set has no splits of its own, ``train`` and
            ``val`` are 80% and 20% by a hash of the file name. ``all`` takes every picture.
        transforms: applied to each item.
        faults: takes up what is wrong; the default raises what training can't do without.

    A picture's objects are in the file of its name with ``.txt``, in the folder of its own with
    the last ``images`` in it made ``labels``, or beside it; without one it shows none. A line is
    class from 0, centre x and y, width, height, and perhaps a confidence, which is passed over; or
    class and the corners x y of a polygon of three points or more, whose box is taken. Label
    ``i + 1`` is name ``i``.

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
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root = Path(root)
        plan = _plan(self.root)
        super().__init__(plan.classes, transforms, faults)
        for picture in plan.pictures(split):
            lines = self._lines(_text_of(picture))
            if not picture.is_file():
                self.faults.left_out(Kind.MISSING, picture, "picture is missing; left out")
            elif size := self.readable_size(picture):
                self.add(_record(len(self) + 1, lines, _name(picture, plan.base), size), picture)
        if not self.records:
            raise DataError(f"{self.root}: no picture of split {split!r} can be read")
        self.report(self.root)

    def _lines(self, file: Path | None) -> list[_Line]:
        """The lines that can be used."""
        if file is None:
            return []
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            self.faults.refuse(Kind.ANNOTATIONS, file, f"not readable ({error})")
            return []
        read = (self._line(file, k, text) for k, text in enumerate(lines, start=1) if text.strip())
        return [line for line in read if line]

    def _line(self, file: Path, number: int, text: str) -> _Line | None:
        where = f"line {number} is {text.strip()!r}"
        try:
            label, numbers = _class_of(text.split()[0]), np.array(text.split()[1:], np.float64)
        except (ValueError, OverflowError):
            self.faults.refuse(Kind.ENTRY, file, f"{where}, wanted a class and numbers")
            return None
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
        if not (right > left and bottom > top):
            self.faults.left_out(Kind.NO_AREA, file, f"{where}, without area; left out")
            return None
        return label, box


@dataclass(frozen=True)
class _Plan:
    """What a set says of itself.

    base: names of pictures are from here. classes: their names. places: folders and lists of
    pictures by split. roots: where places may be from.
    """

    base: Path
    classes: list[str]
    places: dict[str, list[str]]
    roots: Sequence[Path]

    def pictures(self, split: str) -> list[Path]:
        if split == "all":
            # descriptions often name test pictures that nobody has
            found = [p for s in self.places if self._is_there(s) for p in self._of(s)]
            return list(dict.fromkeys(found))
        if set(self.places) != {"train"}:
            if split not in self.places:
                have = ", ".join(self.places)
                raise NoSplit(f"{self.base}: no pictures for split {split!r} (there are {have})")
            return self._of(split)
        every = self._of("train")
        keep = set(hashed_split((_name(p, self.base) for p in every), split))
        return [p for p in every if _name(p, self.base) in keep]

    def _of(self, split: str) -> list[Path]:
        return [p for entry in self.places[split] for p in _pictures(self._place(entry))]

    def _is_there(self, split: str) -> bool:
        return any(place.exists() for e in self.places[split] for place in self._candidates(e))

    def _place(self, entry: str) -> Path:
        tried = self._candidates(entry)
        for place in tried:
            if place.exists():
                return place
        looked = ", ".join(dict.fromkeys(map(str, tried)))
        raise DataError(f"{self.base}: {entry} is not there (looked for {looked})")

    def _candidates(self, entry: str) -> list[Path]:
        # Roboflow's exports name ../train/images for the train/images beside the description
        return [root / e for e in (entry, entry.removeprefix("../")) for root in self.roots]


def is_yolo(root: Path) -> bool:
    """Whether a folder, or a .yaml file, is a set of this form."""
    if root.is_file():
        return root.suffix.lower() in YAML_SUFFIXES
    file = _description(root)
    if _has_object(root) or (file is not None and "train" in _read(file)):
        return True
    named = file is not None or _listing(root) is not None
    return named and any(_text_of(p) for p in islice(_pictures(root), 20))


def _has_object(root: Path) -> bool:
    """Whether one of the first texts in a folder has an object in its first line."""
    # not the whole tree: without any text all of a million pictures would be passed
    texts = (f for pattern in _TEXTS for f in root.glob(pattern))
    for file in islice(texts, 20):
        try:
            words = file.read_text(encoding="utf-8-sig").partition("\n")[0].split()
            numbers = [float(word) for word in words]
        except (OSError, ValueError):
            continue
        if len(numbers) >= 5 and all(abs(n) <= 2 for n in numbers[1:5]):
            return True
    return False


def _plan(root: Path) -> _Plan:
    file = root if root.is_file() else _description(root)
    if file is not None:
        return _described(file)
    listing = _listing(root)
    if listing is None:
        raise DataError(
            f"{root}: nothing says what the classes are (looked for names in a .yaml, "
            f"{', '.join(_NAME_FILES)})"
        )
    lines = listing.read_text(encoding="utf-8-sig").splitlines()
    return _Plan(root, [n.strip() for n in lines if n.strip()], _places_in(root), [root])


def _described(file: Path) -> _Plan:
    said = _read(file)
    if "names" not in said:
        raise DataError(f"{file}: wanted a key names, as a set in YOLO's form has it")
    roots = [file.parent / str(said.get("path") or ""), file.parent]
    base = next(root for root in roots if root.is_dir())
    places = {}
    for split in SPLITS:
        entries = said.get(split) or said.get(split_names(split)[1]) or []
        if entries:
            places[split] = [str(e) for e in (entries if isinstance(entries, list) else [entries])]
    return _Plan(base, _class_names(file, said["names"]), places or _places_in(base), roots)


def _read(file: Path) -> dict[str, Any]:
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{file}: not readable as YAML ({' '.join(str(error).split())})") from error
    return said if isinstance(said, dict) else {}


def _description(root: Path) -> Path | None:
    """The first .yaml in a folder that has class names."""
    for file in sorted(f for s in YAML_SUFFIXES for f in root.glob(f"*{s}")):
        try:
            if "names" in _read(file):
                return file
        except DataError:
            continue
    return None


def _listing(root: Path) -> Path | None:
    """A folder's list of class names, one a line."""
    return next((root / n for n in _NAME_FILES if (root / n).is_file()), None)


def _places_in(root: Path) -> dict[str, list[str]]:
    """Where the pictures are by custom."""
    places = {}
    for split in SPLITS:
        for name in split_names(split):
            for folder in (f"images/{name}", f"{name}/images"):
                if (root / folder).is_dir():
                    places[split] = [folder]
    return places or {"train": ["images" if (root / "images").is_dir() else "."]}


def _class_names(file: Path, names: Any) -> list[str]:
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DataError(f"{file}: names must count from 0 without gaps, got {sorted(names)}")
        names = [names[k] for k in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{file}: names must be a list, or a mapping from 0 on, got {names!r}")
    return [str(name) for name in names]


def _pictures(place: Path) -> Iterator[Path]:
    """Those in a folder, at any depth, or those that a list names; by name, or in its order."""
    if place.is_dir():
        yield from sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        return
    try:
        lines = place.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: not readable as a list of pictures ({error})") from error
    for line in lines:
        if line.strip():
            yield place.parent / line.strip()


def _text_of(picture: Path) -> Path | None:
    """The file of a picture's objects, if there is one."""
    folders = list(picture.parent.parts)
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        folders[last] = "labels"
    for file in (Path(*folders) / f"{picture.stem}.txt", picture.with_suffix(".txt")):
        if file.is_file():
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


def _name(picture: Path, base: Path) -> str:
    return str(picture.relative_to(base)) if picture.is_relative_to(base) else str(picture)


def _record(number: int, lines: Sequence[_Line], name: str, size: tuple[int, int]) -> Record:
    boxes = [np.multiply(box, [*size, *size]).tolist() for _, box in lines]
    labels = [label + 1 for label, _ in lines]
    return Record.of_boxes(number, name, size, boxes, labels, [False] * len(lines))
