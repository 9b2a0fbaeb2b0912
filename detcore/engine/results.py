"""Detections as files, in COCO's results form: written for other tools, and read from them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from detcore.data import AnyDataset, DataError, DetectionDataset, load
from detcore.data.coco import Coco
from detcore.engine.checkpoint import atomic
from detcore.engine.matching import Json

_KEYS = ("image_id", "category_id", "bbox", "score")


def write_results(path: Path, results: list[Json]) -> None:
    """Write COCO results, a line a detection, whole or not at all; folders are made.

    Numbers are written in full, so that reading them back gives the same figures.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(r, allow_nan=False) for r in results)
    with atomic(path) as aside:
        aside.write_text(f"[\n{rows}\n]\n" if rows else "[]\n", encoding="utf-8")


def read_results(path: Path, truth: Json) -> list[Json]:
    """Read COCO results that any tool wrote, and check every entry against a ground truth.

    Args:
        path: a JSON list of objects with ``image_id``, ``category_id``, ``bbox`` (xywh, pixels of
            the original picture) and ``score``; what else they hold is left out.
        truth: the COCO document that they are about.

    Returns:
        The detections, in the file's order.

    Raises:
        DataError: no such file or no such list; an image or category that `truth` doesn't have; a
            box or score that isn't made of finite numbers, or a negative width or height. The text
            names the entry, counted from 0.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(entries, list):
        raise DataError(
            f"{path}: COCO results must be a list of detections, got {type(entries).__name__}"
        )
    images = {i["id"] for i in truth["images"]}
    categories = {c["id"] for c in truth["categories"]}
    results = []
    for k, entry in enumerate(entries):
        if fault := _fault(entry, images, categories):
            raise DataError(f"{path}: entry {k} {fault}")
        results.append({key: entry[key] for key in _KEYS})
    return results


def data_to_score(spec: str, split: str) -> DetectionDataset:
    """Detection data for results that are there already: a COCO file needs no pictures for it.

    Raises:
        DataError: nothing readable there, or data for another task.
    """
    path = Path(spec)
    if path.suffix.lower() == ".json" and path.is_file():
        return Coco(path, need_pictures=False)
    data: AnyDataset = load(spec, split)
    if not isinstance(data, DetectionDataset):
        raise DataError(f"{spec} is for {data.task}, results in COCO's form are for detection")
    return data


def _fault(entry: Any, images: set[int], categories: set[int]) -> str | None:
    """What is wrong with an entry, or None."""
    if not isinstance(entry, dict):
        return f"must be an object, got {entry!r}"
    for key in _KEYS:
        if key not in entry:
            return f"has no {key!r}"
    for key, known, kind in (
        ("image_id", images, "image"),
        ("category_id", categories, "category"),
    ):
        value = entry[key]
        # True is 1 to Python, and 5.0 is 5: neither is an id
        if not isinstance(value, int) or isinstance(value, bool) or value not in known:
            return f"is of {kind} {value!r}, which the data doesn't have"
    box, score = entry["bbox"], entry["score"]
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
        return f"has bbox {box!r}, wanted [x, y, width, height] of finite numbers"
    if box[2] < 0 or box[3] < 0:
        return f"has bbox {box!r}, whose width or height is negative"
    if not _is_finite(score):
        return f"has score {score!r}, wanted a finite number"
    return None


def _is_finite(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return number and math.isfinite(value)
    except OverflowError:  # a whole number beyond a float's range
        return False
