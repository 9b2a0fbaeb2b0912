"""One JSON file in COCO's form, its entries checked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detcore.data.faults import DataError, Faults, Kind
from detcore.utils.optional_imports import require
from detcore.utils.user_files import read_json

Entry = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """What a file says, without the entries that can't be used.

    images: one per id. categories: name by id, ids ascending. annotations: by image id; each has
    an ``id``, its own or else its place in the file.
    """

    file: Path
    images: list[Entry]
    categories: dict[int, str]
    annotations: dict[int, list[Entry]]


def read_document(file: Path, faults: Faults) -> Document:
    """Read a file.

    A key that is null is as good as absent, and so are ``width``, ``height``, ``bbox``, ``area``
    and the flags where they are not needed.

    Raises:
        DataError: no JSON, not of COCO's form, or entries that contradict each other, where
            `faults` does not take these up.
    """
    parts = _parts(file)
    whole = {part: _whole_entries(file, part, parts[part], faults) for part in _WANTED}
    if not whole["categories"]:
        raise DataError(f"{file}: it has no categories")
    images = _once(file, whole["images"], faults)
    categories = {int(c["id"]): str(c["name"]) for c in reversed(whole["categories"])}
    document = Document(file, images, dict(sorted(categories.items())), defaultdict(list))
    # what is of an entry that was refused is no fault of its own
    known = {"image_id": _ids(parts["images"]), "category_id": _ids(parts["categories"])}
    kept_images = {int(i["id"]) for i in images}
    for a in whole["annotations"]:
        image, category = int(a["image_id"]), int(a["category_id"])
        is_known = _is_of_known(file, a, known, faults)
        if is_known and image in kept_images and category in categories:
            document.annotations[image].append(a)
    _check_categories(document, whole["categories"], faults)
    return document


def box_of(annotation: Entry) -> Any:
    """Its bbox in pixels, or that of its segmentation; None without.

    ``[x, y, width, height]``, or as annotated, which may be anything.
    """
    # some exporters write an empty list
    return annotation.get("bbox") or _box_of_segmentation(annotation.get("segmentation"))


def points_of(segmentation: Any) -> NDArray[np.float64] | None:
    """The points ``[n, 2]`` of polygons ``[[x, y, x, y, ...], ...]``; None of anything else."""
    if isinstance(segmentation, dict):
        return None  # a run-length mask
    try:
        flat = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in segmentation]
        points = np.concatenate(flat)
    except (TypeError, ValueError):
        return None
    return points if len(points) else None


def _parts(file: Path) -> dict[str, list[Any]]:
    document = read_json(file)
    for part in _WANTED:
        if not isinstance(document, dict) or not isinstance(document.get(part), list):
            raise DataError(
                f"{file}: not a COCO file, it has no list {part!r} (wanted 'images', "
                f"'annotations' and 'categories' as COCO has them; or, for labels of whole "
                f'pictures, {{"classes": ["cat"], "images": [{{"file": "a.jpg", '
                f'"labels": ["cat"]}}]}})'
            )
    parts: dict[str, list[Any]] = document
    return parts


@dataclass(frozen=True)
class _Key:
    name: str
    read: Callable[[Any], Any]  # raises where the value is none
    wanted: str
    needed: bool = True


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(value)
    return value


def _finite(value: Any) -> float:
    if not isfinite(number := float(value)):
        raise ValueError(value)
    return number


# ids come as numbers and as text; names of classes as whatever can be printed
_WANTED: dict[str, tuple[_Key, ...]] = {
    "images": (
        _Key("id", int, "a whole number"),
        _Key("file_name", _text, "text"),
        _Key("width", int, "a whole number", needed=False),
        _Key("height", int, "a whole number", needed=False),
    ),
    "annotations": (
        _Key("image_id", int, "a whole number"),
        _Key("category_id", int, "a whole number"),
        _Key("bbox", _list, "a list", needed=False),
        _Key("area", _finite, "a number", needed=False),
        _Key("iscrowd", int, "0 or 1", needed=False),
        _Key("ignore", int, "0 or 1", needed=False),
    ),
    "categories": (_Key("id", int, "a whole number"), _Key("name", str, "text")),
}


def _whole_entries(file: Path, part: str, entries: list[Any], faults: Faults) -> list[Entry]:
    kept = []
    for number, entry in enumerate(entries, start=1):
        if isinstance(entry, dict) and None in entry.values():
            entry = {key: value for key, value in entry.items() if value is not None}
        if problem := _problem(entry, _WANTED[part]):
            # its place tells it from others of the same fault
            faults.refuse(Kind.ENTRY, file, f"entry {number} of {part!r} {problem}")
        else:
            entry.setdefault("id", f"at place {number}")
            kept.append(entry)
    return kept


def _problem(entry: Any, keys: Sequence[_Key]) -> str:
    if not isinstance(entry, dict):
        return f"is {str(entry)[:60]}, wanted an object with {keys[0].name!r}"
    for key in keys:
        if key.name not in entry:
            if key.needed:
                return f"has no {key.name!r}"
            continue
        try:
            key.read(entry[key.name])
        except (TypeError, ValueError, OverflowError):
            return f"has {key.name} {entry[key.name]!r}, wanted {key.wanted}"
    return ""


def _once(file: Path, images: list[Entry], faults: Faults) -> list[Entry]:
    kept: dict[int, Entry] = {}
    for info in images:
        first = kept.setdefault(int(info["id"]), info)
        if first is not info:
            both = f"{first['file_name']} and {info['file_name']}"
            text = f"two images have the same id {info['id']}: {both}"
            faults.refuse(Kind.DUPLICATE, file, text)
    return list(kept.values())


def _ids(entries: list[Any]) -> set[int]:
    """Every id that entries have, whatever else they lack."""
    found = set()
    for entry in entries:
        try:
            found.add(int(entry["id"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    return found


_POINTS_AT = {
    "image_id": (Kind.UNKNOWN_IMAGE, "is of image"),
    "category_id": (Kind.UNKNOWN_CLASS, "has category"),
}


def _is_of_known(file: Path, a: Entry, known: dict[str, set[int]], faults: Faults) -> bool:
    for key, (kind, verb) in _POINTS_AT.items():
        if int(a[key]) not in known[key]:
            text = f"annotation {a['id']} {verb} {a[key]}, which is not in the file"
            faults.refuse(kind, file, text)
            return False
    return True


def _check_categories(document: Document, entries: list[Entry], faults: Faults) -> None:
    """Refuse two categories of one id, or of one name where both have objects.

    A name that only stands there is legal: Roboflow lists the group of all classes as a category
    of its own, which often has the name of one of them.
    """
    used = {int(a["category_id"]) for of in document.annotations.values() for a in of}
    ids: set[int] = set()
    first: dict[str, int] = {}
    for entry in entries:
        number, name = int(entry["id"]), str(entry["name"])
        if number in ids:
            text = f"two categories have the same id {number}"
            faults.refuse(Kind.DUPLICATE_CLASS, document.file, text)
        elif number in used and first.setdefault(name, number) != number:
            text = f"categories {first[name]} and {number} have the same name {name!r}"
            faults.refuse(Kind.DUPLICATE_CLASS, document.file, text)
        ids.add(number)


def _box_of_segmentation(segmentation: Any) -> list[float] | None:
    """[x, y, width, height] around polygons or a run-length mask."""
    if isinstance(segmentation, dict):
        return _box_of_mask(segmentation)
    points = points_of(segmentation)
    if points is None:
        return None
    low, high = points.min(axis=0), points.max(axis=0)
    return [*low.tolist(), *(high - low).tolist()]


def _box_of_mask(mask: dict[str, Any]) -> list[float] | None:
    masks = require("pycocotools.mask")
    try:
        height, width = (int(side) for side in mask["size"])
        # its C code divides by these without looking
        if height < 1 or width < 1 or not isinstance(mask["counts"], list | str):
            return None
        if isinstance(mask["counts"], list):
            mask = masks.frPyObjects(mask, height, width)
        return [float(k) for k in masks.toBbox({**mask, "size": [height, width]})]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
