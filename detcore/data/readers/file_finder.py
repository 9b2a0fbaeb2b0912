"""Where exporters put what belongs to a split, and the pictures that a file of labels names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detcore.data.base import SPLITS, split_names
from detcore.data.faults import DataError, NoSplit

_FIRST = 20  # pictures that are looked for to find out where all are


def files_of_split(
    root: Path, found: Sequence[Path], split: str, form: str
) -> tuple[list[Path], str]:
    """Which files of labels under a folder are for `split`, and the split to take of them.

    Args:
        root: the folder.
        found: its files. A file is for a split by a word in its name, or by its folder's.
        split: ``all`` takes one file of each split.
        form: the files' form, for the error's text.

    Returns:
        (files, ``all``); or where a single file is for no split in particular, (it, `split`).

    Raises:
        NoSplit: none is for this split.
    """
    # COCO itself: instances_val2017.json; Roboflow: valid/_annotations.coco.json
    if own := _named(root, found, split):
        return [own], "all"
    each = [file for s in SPLITS if (file := _named(root, found, s))]
    if each and split == "all":
        return list(dict.fromkeys(each)), "all"
    if len(found) == 1 and not each:
        return list(found), split
    there = ", ".join(str(f.relative_to(root)) for f in found)
    raise NoSplit(f"{root}: no {form} file for split {split!r} (there are {there})")


def _named(root: Path, found: Sequence[Path], split: str) -> Path | None:
    names = split_names(split)
    for file in found:
        words = file.stem.lower().replace("-", "_").split("_")
        folder = file.parent.name.lower() if file.parent != root else ""
        if folder in names or any(w.rstrip("0123456789") in names for w in words):
            return file
    return None


@dataclass(frozen=True)
class Pictures:
    """A folder of pictures, and the way from a name in a file of labels to a name in it."""

    folder: Path
    spelling: Callable[[str], str] = str

    def of(self, name: str) -> Path:
        return self.folder / self.spelling(name)


def _with_slashes(name: str) -> str:
    return name.replace("\\", "/")


def _base_name(name: str) -> str:
    return _with_slashes(name).rsplit("/", 1)[-1]


# as the file has it; as Windows had it; the name alone, for paths on the server that labelled it
_SPELLINGS: tuple[Callable[[str], str], ...] = (str, _with_slashes, _base_name)


def find_pictures(file: Path, names: Sequence[str], folder: Path | None = None) -> Pictures:
    """Where the pictures that a file of labels names are, to judge by the first of them.

    Args:
        file: the file of labels.
        names: of its pictures, as it has them, one at least.
        folder: where they are; None looks beside the file and where common exporters put them.

    Raises:
        DataError: none of the first names is found, in any of the likely folders and spellings.
    """
    tail = file.stem.removeprefix("instances_")
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    likely = [root / tail, root / "images" / tail, root / "images", root, file.parent]
    likely = [folder] if folder else list(dict.fromkeys(likely))
    for spelling in _SPELLINGS:
        # a/1.jpg and b/1.jpg are two pictures
        if len(set(map(spelling, names))) < len(set(names)):
            continue
        for place in likely:
            if any((place / spelling(name)).is_file() for name in names[:_FIRST]):
                return Pictures(place, spelling)
    tried = ", ".join(map(str, likely))
    raise DataError(f"{file}: its pictures were not found, the first is {names[0]} (in {tried})")
