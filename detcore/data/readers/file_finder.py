"""Where exporters put what belongs to a split, and the pictures that a file of labels names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from os.path import isfile
from pathlib import Path

from detcore.data.faults import DataError
from detcore.data.splits import SPLITS, is_named, no_split


def files_of_split(
    root: Path, found: Sequence[Path], split: str, form: str, val_share: float | None = None
) -> tuple[list[Path], str]:
    """Which files of labels under a folder are for `split`, and the split to take of them.

    Args:
        root: the folder.
        found: its files. A file is for a split by a word in its name, or by its folder's.
        split: ``all`` takes one file of each split.
        form: the files' form, for the error's text.
        val_share: of the training file that is held out where none is for validation; see
            `detcore.data.splits`.

    Returns:
        (files, ``all``); or where a share of a file is to be taken, (it, `split`).

    Raises:
        NoSplit: none is for this split.
    """
    named = {s: file for s in SPLITS if (file := _named(root, found, s))}
    held_out = "train" in named and "val" not in named and 0 < (val_share or 0) < 1
    if own := _named(root, found, split):
        return [own], split if split == "train" and held_out else "all"
    if named and split == "all":
        return list(dict.fromkeys(named.values())), "all"
    if split == "val" and held_out:
        return [named["train"]], split
    if len(found) == 1 and not named:
        return list(found), split
    raise no_split(root, split, named or [str(f.relative_to(root)) for f in found], f"{form} file")


def _named(root: Path, found: Sequence[Path], split: str) -> Path | None:
    # COCO itself: instances_val2017.json; Roboflow: valid/_annotations.coco.json
    for file in found:
        words = file.stem.lower().replace("-", "_").split("_")
        folder = file.parent.name if file.parent != root else ""
        if is_named(folder, split) or any(is_named(w.rstrip("0123456789"), split) for w in words):
            return file
    return None


class Pictures:
    """The way from a name in a file of labels to a file: each name is tried for itself.

    Args:
        folders: where pictures may be, the likeliest first.
        names: all that the file has.
    """

    def __init__(self, folders: Sequence[Path], names: Sequence[str]) -> None:
        self.folders = list(dict.fromkeys(folders))
        # a/1.jpg and b/1.jpg are two pictures
        self.bases = Counter(map(_base_name, dict.fromkeys(names)))
        self.last = (self.folders[0], 0)  # folder and spelling of the one found last

    def of(self, name: str) -> Path:
        """The file of a picture, or where it would be if it were there."""
        for folder, k in (self.last, *self._ways()):
            spelled = self._spelled(name, k)
            if spelled is not None and isfile(path := folder / spelled):
                self.last = folder, k
                return path
        return self.last[0] / _with_slashes(name)

    def _ways(self) -> Iterator[tuple[Path, int]]:
        return ((folder, k) for k in range(3) for folder in self.folders)

    def _spelled(self, name: str, k: int) -> str | None:
        """As the file has it; as Windows had it; alone, for paths on the server of labellers."""
        if k == 2:
            base = _base_name(name)
            return base if self.bases[base] == 1 else None
        return _with_slashes(name) if k else name


def _with_slashes(name: str) -> str:
    return name.replace("\\", "/")


def _base_name(name: str) -> str:
    return _with_slashes(name).rsplit("/", 1)[-1]


def find_pictures(
    file: Path, names: Sequence[str], folder: Path | None = None, needed: bool = True
) -> Pictures:
    """Where the pictures that a file of labels names are.

    Args:
        file: the file of labels.
        names: of its pictures, as it has them, one at least.
        folder: where they are; None looks beside the file and where common exporters put them.
        needed: whether one at least must be there.

    Raises:
        DataError: none of the names is found, in any of the likely folders and spellings.
    """
    tail = file.stem.removeprefix("instances_")
    root = file.parent.parent if file.parent.name == "annotations" else file.parent
    likely = [root / tail, root / "images" / tail, root / "images", root, file.parent]
    pictures = Pictures([folder] if folder else likely, names)
    if needed and not any(isfile(pictures.of(name)) for name in names):
        tried = ", ".join(map(str, pictures.folders))
        raise DataError(
            f"{file}: its pictures were not found, the first is {names[0]} (in {tried})"
        )
    return pictures
