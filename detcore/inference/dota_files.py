"""Detections as DOTA's evaluation server takes them: a text file per class."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from detcore.data.oriented import corners_of, upright_corners
from detcore.utils.atomic_write import write_text
from detcore.utils.errors import UsageError
from detcore.utils.json_types import Json

log = logging.getLogger(__name__)


def write_dota(folder: Path, answers: Sequence[Json], classes: Sequence[str]) -> None:
    """Write detections of oriented boxes in the form of DOTA's Task 1, each file whole or not.

    Args:
        folder: gets ``Task1_<class>.txt`` for every class, empty where nothing is of it; made if it
            is not there. A line is ``name score x1 y1 x2 y2 x3 y3 x4 y4``: the picture's name
            without its folder and suffix, and the corners in pixels with four decimals.
        answers: `detcore.inference.predict_loop.annotate`'s, whose ``box`` is cxcywh, pixels, and
            degrees counter-clockwise, or upright xyxy.
        classes: all class names, in order.

    Raises:
        UsageError: pictures of two folders or suffixes share a name, so that the files could not
            tell them apart, or a class has a name that no file can have.

    Lines are in the order of the answers. Deterministic.
    """
    _check(answers, classes)
    lines: dict[str, list[str]] = {name: [] for name in classes}
    for answer in answers:
        picture = _name_of(answer)
        for found in answer["detections"]:
            corners = " ".join(f"{number:.4f}" for number in _corners(found["box"]))
            lines[found["class"]].append(f"{picture} {found['score']} {corners}\n")
    folder.mkdir(parents=True, exist_ok=True)
    for name, of in lines.items():
        write_text(folder / file_of(name), "".join(of))


def file_of(name: str) -> str:
    """The name of a class's file."""
    return f"Task1_{name}.txt"


def _check(answers: Sequence[Json], classes: Sequence[str]) -> None:
    for name in classes:
        if not name or any(character in name for character in "/\\\0"):
            raise UsageError(
                f"no file {file_of(name)} can be written: {name!r} is no name of a file"
            )
    files: dict[str, str] = {}
    for answer in answers:
        name, file = _name_of(answer), answer["file"]
        if files.setdefault(name, file) != file:
            raise UsageError(
                f"DOTA's files name a picture without folder and suffix: {files[name]} and {file} "
                f"are both {name!r} there"
            )
    if spaced := [name for name in files if name.split() != [name]]:
        log.warning("DOTA's files part columns by spaces, and %r has one", spaced[0])


def _name_of(answer: Json) -> str:
    return PurePath(answer["file"]).stem


def _corners(box: Sequence[float]) -> list[float]:
    """x and y of four corners."""
    numbers = np.array([box], np.float64)
    out = corners_of(numbers) if numbers.shape[1] == 5 else upright_corners(numbers)
    return [float(number) for number in out[0]]
