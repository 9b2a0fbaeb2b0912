"""Boxes further down in a folder, which must not be taken for classification."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

from detcore.data.files import folders_in, walk
from detcore.data.readers.coco import looks_like_coco

_DEEP, _FOLDERS, _FILES = 3, 2000, 20_000


def box_sets(root: Path, form_of: Callable[[Path], str | None]) -> list[tuple[str, Path]]:
    """The sets of boxes in the folders below one, form and folder; none below another."""
    found: list[tuple[str, Path]] = []
    level, passed = folders_in(root), 0
    for _ in range(_DEEP):
        below: list[Path] = []
        for folder in level[: _FOLDERS - passed]:
            passed += 1
            if form := form_of(folder):
                found.append((form, folder))
            else:
                below += folders_in(folder)
        level = below
    return found


def stray_annotation(root: Path) -> Path | None:
    """The first file of boxes anywhere under a folder, to judge by its content."""
    for file in islice(walk(root), _FILES):
        suffix = file.suffix.lower()
        if suffix == ".json" and looks_like_coco(file):
            return file
        if suffix == ".xml" and file.is_file() and b"<bndbox" in _head(file):
            return file
    return None


def _head(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(1 << 16)
