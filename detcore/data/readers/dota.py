"""DOTA, oriented objects in aerial pictures (Xia et al., CVPR 2018; Ding et al., PAMI 2022)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detcore.data.base import FileDetection, Record, Transform, log
from detcore.data.faults import DataError, Faults, Kind
from detcore.data.files import files_in, folders_in, pictures_under
from detcore.data.images import unwarned
from detcore.data.oriented import are_boxes
from detcore.data.splits import part, split_of
from detcore.utils.user_files import read_text

# in the order of DOTA's own devkit: 15 of version 1.0, one more of 1.5, two more of 2.0
CLASSES = (
    *("plane", "baseball-diamond", "bridge", "ground-track-field", "small-vehicle"),
    *("large-vehicle", "ship", "tennis-court", "basketball-court", "storage-tank"),
    *("soccer-ball-field", "roundabout", "harbor", "swimming-pool", "helicopter"),
    *("container-crane", "airport", "helipad"),
)
_VERSIONS = (15, 16, 18)
_HEADERS = ("imagesource", "gsd")  # each followed by a colon
_DIFFICULT = {"0": False, "1": True, "2": True}


class _Object(NamedTuple):
    corners: list[float]  # x and y of four, pixels
    name: str
    difficult: bool


class Dota(FileDetection):
    """Aerial pictures with objects of four corners, in the form of DOTA's text files.

    Args:
        root: holds ``labelTxt/P0000.txt``, ... and ``images/P0000.png``, ..., or a folder per split
            that does, such as ``train/`` and ``val/``; or ``labelTxt/`` holds a folder per split.
            Texts may be in a folder one further down, as in DOTA's archives, and the first one's
            name may go on, as in ``labelTxt-v1.5``; of several the last by name is read, but none
            with upright boxes. MMRotate's ``annfiles/`` are taken too. Pictures may be at any depth
            in ``images/``.
        split: a folder's name; ``all`` takes every text. Where the data has no such folders,
            ``train`` and ``val`` are 80% and 20% by a hash of the file name. DOTA's test pictures
            have no texts, and are no split.
        oriented: give corners; else the upright boxes around them.
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
        transforms: applied to each item.
        faults: collects what is wrong; by default, what training can't work with is raised.

    A line is x and y of four corners in pixels, the category, and how difficult the object is: 0,
    or 1 or 2 (2 is for objects that a devkit cut), or nothing for 0. Difficult objects are trained
    on, and ignored in evaluation. ``imagesource:`` and ``gsd:`` are kept in `Record.extra` as they
    stand.

    The classes are those of the first of DOTA's versions, 1.0, 1.5 or 2.0, that has all that occur
    in any split, in its devkit's order; a set in DOTA's form with others has its own, by name.

    Items are whole pictures, up to the 178,956,970 pixels that Pillow takes (13,377 x 13,377; more
    with ``PIL.Image.MAX_IMAGE_PIXELS = None``). `detcore.data.load` cuts those of ``train`` into
    tiles of 1,024 pixels. Each tile decodes its whole picture.

    Raises:
        DataError: no such folder, a label file that can't be read.
        NoSplit: no such split.
    """

    tile = 1024

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        oriented: bool = False,
        val_share: float | None = None,
        transforms: Transform | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.root = Path(root)
        super().__init__(CLASSES, transforms, faults)
        self.oriented = oriented
        own = _parts(self.root)
        if not own:
            raise DataError(
                f"{self.root}: no DOTA labels (looked for labelTxt*/ and annfiles/ with .txt in "
                f"them, here and in the folders here)"
            )
        self.name_classes(_classes(self.root, (file for of in own.values() for file in of)))
        pictures = _Pictures(self.root)
        name_of = lambda file: file.stem  # noqa: E731
        with unwarned():  # its pictures are larger than what Pillow warns at
            for file in part(own, split, self.root, name_of=name_of, val_share=val_share):
                objects, said = self._objects(file)
                named = pictures.named(file)
                record_of = partial(self._record, objects, said, named.name)
                self.take(named, named, record_of)
        self.finish(self.root, split)

    def _record(
        self, objects: Sequence[_Object], said: dict[str, str], name: str, size: tuple[int, int]
    ) -> Record:
        labels = [self.classes.index(o.name) + 1 for o in objects]
        corners, difficult = [o.corners for o in objects], [o.difficult for o in objects]
        record = Record.of_corners(len(self) + 1, name, size, corners, labels, difficult)
        record.extra.update(said)
        return record if self.oriented else record.upright()

    def _objects(self, file: Path) -> tuple[list[_Object], dict[str, str]]:
        """The objects that can be used, and what the file says of its picture."""
        found: list[_Object] = []
        where: list[str] = []
        said = {}
        for number, line in enumerate(self.lines_of(file), start=1):
            key, colon, value = line.partition(":")
            if colon and key.strip().lower() in _HEADERS:
                said[key.strip().lower()] = value.strip()
            elif line.strip():
                place = f"line {number} is {line.strip()[:200]!r}"
                read = self._object(file, place, line.split())
                if read is not None:
                    found.append(read)
                    where.append(place)
        usable = are_boxes(np.array([o.corners for o in found], np.float64).reshape(-1, 8))
        for place in (w for w, fine in zip(where, usable, strict=True) if not fine):
            self.faults.left_out(Kind.NO_AREA, file, f"{place}, without area; left out")
        return [o for o, fine in zip(found, usable, strict=True) if fine], said

    def _object(self, file: Path, place: str, words: list[str]) -> _Object | None:
        difficult = words[9] if len(words) == 10 else "0"
        try:
            corners = [float(word) for word in words[:8]]
        except ValueError:
            corners = []
        if len(corners) < 8 or len(words) not in (9, 10) or difficult not in _DIFFICULT:
            wanted = "wanted x and y of four corners, a category, and 0, 1, 2 or nothing"
            self.faults.refuse(Kind.ENTRY, file, f"{place}, {wanted}")
            return None
        if not np.isfinite(corners).all():
            self.faults.refuse(Kind.NOT_FINITE, file, f"{place}, wanted finite numbers")
            return None
        return _Object(corners, words[8], _DIFFICULT[difficult])


def is_dota(root: Path) -> bool:
    """Whether a folder, or one of the folders in it, holds texts of DOTA's form."""
    texts = (file for of in _parts(root).values() for file in of)
    return any(_names_in(file) for file in islice(texts, 20))


def _parts(root: Path) -> dict[str, list[Path]]:
    """The texts of each part of a set, by its name; "": the set is not divided."""
    if here := _folders(root):
        divided = {f.name: files_in(f, "*.txt") for f in here if split_of(f.name)}
        return divided or {"": _last_of(root, here)}
    inside = {f: _folders(f) for f in folders_in(root)} if root.is_dir() else {}
    return {f.name: _last_of(f, there) for f, there in inside.items() if there}


def _folders(base: Path) -> list[Path]:
    """The folders below `base` that hold texts by their names; none with upright boxes."""
    found = files_in(base, "labelTxt*", "labelTxt*/*", "annfiles", "annfiles/*")
    names = (f for f in found if f.is_dir() and not _is_upright(f.name))
    return [f for f in names if next(f.glob("*.txt"), None)]


def _is_upright(folder: str) -> bool:
    # DOTA-v1.5_train_hbb; trainset_reclabelTxt of version 1.0
    return folder.lower().endswith("_hbb") or "reclabel" in folder.lower()


def _last_of(base: Path, folders: Sequence[Path]) -> list[Path]:
    chosen = folders[-1]
    if len(folders) > 1:
        log.warning("%s: of its %d folders of labels %s is read", base, len(folders), chosen)
    return files_in(chosen, "*.txt")


def _classes(root: Path, files: Iterable[Path]) -> Sequence[str]:
    """DOTA's own where there are no others; else those that the files have, by name."""
    there = {name for file in files for name in _names_in(file)}
    for count in _VERSIONS:
        if there <= set(CLASSES[:count]):
            return CLASSES[:count]
    log.warning("%s: in DOTA's form, with its own classes: %s", root, ", ".join(sorted(there)))
    return sorted(there)


def _names_in(file: Path) -> set[str]:
    """The categories of a file's lines that are of DOTA's form; none if it can't be read."""
    try:
        rows = [line.split() for line in read_text(file).splitlines()]
    except DataError:
        return set()  # said where its objects are read
    return {words[8] for words in rows if len(words) in (9, 10) and _are_numbers(words[:8])}


def _are_numbers(words: Sequence[str]) -> bool:
    try:
        return all(np.isfinite(float(word)) for word in words)
    except ValueError:
        return False


class _Pictures:
    """Finds the picture of a text: of its name, in the nearest ``images/`` above it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listing: dict[Path, dict[str, Path]] = {}

    def named(self, file: Path) -> Path:
        """The picture, or where it would be if it were there."""
        for base in file.relative_to(self.root).parents:
            images = self.root / base / "images"
            # labelTxt/val belongs to images/val, where there is one
            for folder in (images / file.parent.name, images):
                if file.stem in (there := self._in(folder)):
                    return there[file.stem]
        above = file.relative_to(self.root).parents
        home = self.root / next((b for b in above if (self.root / b / "images").is_dir()), ".")
        return home / "images" / f"{file.stem}.png"

    def _in(self, folder: Path) -> dict[str, Path]:
        if folder not in self.listing:
            found = pictures_under(folder) if folder.is_dir() else []
            self.listing[folder] = {picture.stem: picture for picture in found}
        return self.listing[folder]
