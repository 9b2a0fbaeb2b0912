"""Detections as files, in COCO's results form: written for other tools, and read from them."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from detcore.data import AnyDataset, DataError, DetectionDataset, load
from detcore.data.readers.coco import Coco
from detcore.utils.json_types import Json
from detcore.utils.text import counted
from detcore.utils.user_files import read_json

_KEYS = ("image_id", "category_id", "bbox", "score")
_BY_NAME = {"image_id": "file_name", "category_id": "category_name"}  # what stands in for it
_BOXES = {4: "[x, y, width, height]", 5: "[centre x, centre y, width, height, degrees]"}

log = logging.getLogger(__name__)


def read_results(path: Path) -> list[Any]:
    """Read COCO results that any tool wrote, unchecked.

    Raises:
        DataError: no such file or no list in it.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: COCO results must be a list of detections, got {type(entries).__name__}"
        )
    return entries


def are_oriented(entries: list[Any]) -> bool:
    """Whether results are of oriented boxes: whether the first has five numbers."""
    first = entries[0] if entries else None
    box = first.get("bbox") if isinstance(first, dict) else None
    return isinstance(box, list) and len(box) == 5


def checked_results(path: Path, entries: list[Any], truth: Json, *, oriented: bool) -> list[Json]:
    """Check every entry of COCO results against a ground truth.

    Numbers of pictures and classes are a tool's own, names are not: an entry that has names is
    taken by them, whatever its numbers say.

    Args:
        path: the results' file, for errors.
        entries: objects with ``image_id``, ``category_id`` (numbers, or exact numbers as text),
            ``bbox`` (xywh, pixels of the original picture; with `oriented` cxcywhr, five numbers,
            degrees counter-clockwise) and ``score`` (0..1); perhaps with ``file_name``, of a
            picture, and ``category_name``, which stand in for missing numbers. What else they hold
            is left out; of an entry with ``frame``, one of a video, the ``file_name`` too.
        truth: the COCO document that they are about.
        oriented: whether its boxes are.

    Returns:
        The detections, in the file's order, with the ids of `truth`. Those of a class that `truth`
        doesn't have by name are dropped, and how many these are is logged.

    Raises:
        DataError: an image or category that `truth` doesn't have, or
            a ``file_name`` that its image can't have; no class in common by name; a box or score
            that isn't made of finite numbers, a negative width or height, a score outside 0..1.
            The text names the entry, counted from 0.
    """
    known, results = _Known(truth, 5 if oriented else 4), []
    for k, entry in enumerate(entries):
        try:
            found = known.detection(entry)
        except ValueError as error:
            raise DataError(f"{path}: entry {k} {error}") from error
        if found is not None:
            results.append(found)
    if known.dropped:
        names = ", ".join(sorted(known.dropped))
        if not results:
            raise DataError(
                f"{path}: its classes are {names}, the data's {', '.join(known.categories_named)}"
            )
        number = counted(len(entries) - len(results), "detection", "detections")
        log.warning(
            "%s: %s of classes that the data doesn't have: %s; left out", path, number, names
        )
    return results


def data_to_score(spec: str, split: str | None, *, oriented: bool = False) -> DetectionDataset:
    """Detection data for results that are there already: a COCO file needs no pictures for it.

    oriented: as in `detcore.data.load`.

    Raises:
        DataError: nothing readable there, or data for another task.
    """
    path = Path(spec)
    if path.suffix.lower() == ".json" and path.is_file():
        return Coco(path, need_pictures=False, oriented=oriented)
    # without a split all that isn't divided: it is given for evaluation
    share = None if split else 1.0
    # whole pictures, of the training split too: results are per picture
    data: AnyDataset = load(spec, split or "val", val_share=share, oriented=oriented, tile=0)
    if not isinstance(data, DetectionDataset):
        raise DataError(f"{spec} is for {data.task}, results in COCO's form are for detection")
    return data


class _Known:
    """The pictures and classes of a ground truth, by id and by name.

    dropped: names of classes met that it doesn't have. numbers: of a box.
    """

    def __init__(self, truth: Json, numbers: int) -> None:
        self.numbers = numbers
        self.images: set[int] = {i["id"] for i in truth["images"]}
        # by the name without folders: the whole name's parts by id
        self.images_named: dict[str, dict[int, tuple[str, ...]]] = defaultdict(dict)
        for image in truth["images"]:
            if name := image.get("file_name"):
                parts = _parts(name)
                self.images_named[parts[-1]][image["id"]] = parts
        self.categories: set[int] = {c["id"] for c in truth["categories"]}
        self.categories_named: dict[str, list[int]] = defaultdict(list)
        for category in truth["categories"]:
            self.categories_named[category["name"]].append(category["id"])
        self.dropped: set[str] = set()
        self.told: dict[int, str] = {}  # by what name each picture was called
        self.alike = cache(self._alike)  # detections of a picture come by the hundred

    def detection(self, entry: Any) -> Json | None:
        """What evaluation takes of an entry, None if its class is to be dropped.

        Raises ValueError with what is wrong.
        """
        if not isinstance(entry, dict):
            raise ValueError(f"must be an object, got {entry!r}")
        for key in _KEYS:
            if key not in entry and not isinstance(entry.get(_BY_NAME.get(key)), str):
                raise ValueError(f"has no {key!r}")
        image_id, category_id = self._image(entry), self._category(entry)
        box, score = entry["bbox"], entry["score"]
        if not (isinstance(box, list) and len(box) == self.numbers and all(map(_is_finite, box))):
            raise ValueError(f"has bbox {box!r}, wanted {_BOXES[self.numbers]} of finite numbers")
        if box[2] < 0 or box[3] < 0:
            raise ValueError(f"has bbox {box!r}, whose width or height is negative")
        if not _is_finite(score):
            raise ValueError(f"has score {score!r}, wanted a finite number")
        if not 0 <= score <= 1 + 1e-6:  # the last digit of a softmax may pass 1
            raise ValueError(f"has score {score!r}, wanted 0..1, not percent")
        if category_id is None:
            return None
        return dict(zip(_KEYS, (image_id, category_id, box, score), strict=True))

    def _image(self, entry: Json) -> int:
        image_id, name = _number(entry.get("image_id")), entry.get("file_name")
        if isinstance(name, str) and name and "frame" not in entry and self.images_named:
            return self._image_named(name, image_id)
        if image_id is None or image_id not in self.images:
            raise ValueError(f"is of image {entry.get('image_id')!r}, which the data doesn't have")
        return image_id

    def _image_named(self, name: str, image_id: int | None) -> int:
        candidates, likeness = self.alike(name)
        if not candidates:
            raise ValueError(f"is of {name}, which the data doesn't have")
        if len(candidates) == 1:
            (image_id,) = candidates
        elif image_id not in candidates or not likeness:
            raise ValueError(f"is of {name}: the data has {len(candidates)} pictures of that name")
        if (first := self.told.setdefault(image_id, name)) != name:
            raise ValueError(f"is of {name}, one before of {first}: the data has one such picture")
        return image_id

    def _alike(self, name: str) -> tuple[list[int], int]:
        """The images whose names are most like this one, and how much."""
        parts = _parts(name)
        known = self.images_named.get(parts[-1], {})
        likeness = {i: _likeness(parts, other) for i, other in known.items()}
        best = max(likeness.values(), default=0)
        return [i for i, value in likeness.items() if value == best], best

    def _category(self, entry: Json) -> int | None:
        category_id, name = _number(entry.get("category_id")), entry.get("category_name")
        if isinstance(name, str) and name:
            named = self.categories_named.get(name, [])
            if not named:
                self.dropped.add(name)
                return None
            return category_id if category_id in named else named[0]
        if category_id is None or category_id not in self.categories:
            fault = "which the data doesn't have"
            raise ValueError(f"is of category {entry.get('category_id')!r}, {fault}")
        return category_id


def _parts(name: str) -> tuple[str, ...]:
    """Folders and name of a file, of any system's."""
    return PurePosixPath(name.replace("\\", "/")).parts or (name,)


def _likeness(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """How far two names of files agree from their end on, 0 if one's folders aren't the other's."""
    shared = min(len(one), len(other))
    return 2 * shared + (one == other) if one[-shared:] == other[-shared:] else 0


def _number(value: Any) -> int | None:
    """An id: a whole number, or exactly one as text. True is 1 to Python, 5.0 is 5: neither is."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() and str(int(value)) == value else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return number and math.isfinite(value)
    except OverflowError:  # a whole number beyond a float's range
        return False
