"""Classification from a folder of folders: one folder a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets.folder import find_classes, make_dataset

from detcore.data.base import (
    ClassificationDataset,
    Transform,
    hashed_split,
    split_names,
)
from detcore.data.faults import DataError, NoSplit
from detcore.data.images import IMAGE_SUFFIXES, read_image


class Folder(ClassificationDataset):
    """Pictures sorted into one folder a class, by torchvision's ImageFolder rules.

    Args:
        root: holds the class folders, or one folder a split that holds them.
        split: the split's folder; where there is none, ``train`` and ``val`` are 80% and 20% by
            a hash of the file name, and ``all`` is everything.
        leave: class folders to pass over.
        transforms: applied to each item.

    An item is ``(image, target)``: uint8 ``[3, H, W]`` and ``label`` int64 scalar tensor, where
    ``classes[label]`` is the folder's name (sorted), and ``image_id`` int, its place among all
    the pictures of the folder.

    Raises:
        DataError: no such folder, no class folders, no pictures.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        leave: Sequence[str] = (),
        transforms: Transform | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder")
        folder = split_folder(self.root, split)
        try:
            classes = [c for c in find_classes(str(folder or self.root))[0] if c not in leave]
            index_of = {name: i for i, name in enumerate(classes)}
            found = make_dataset(
                str(folder or self.root), index_of, IMAGE_SUFFIXES, allow_empty=True
            )
        except FileNotFoundError as error:
            raise DataError(f"{self.root}: it holds no folder a class ({error})") from error
        numbered = [(i, Path(path), label) for i, (path, label) in enumerate(found, start=1)]
        if folder is None:
            keep = set(hashed_split((_name(p) for _, p, _ in numbered), split))
            numbered = [entry for entry in numbered if _name(entry[1]) in keep]
        if not numbered:
            raise DataError(f"{folder or self.root}: no pictures for split {split!r}")
        super().__init__(classes, transforms)
        self.samples = numbered

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Tensor:
        return read_image(self.path(index))

    def label(self, index: int) -> Tensor:
        return torch.tensor(self.samples[index][2])

    def image_id(self, index: int) -> int:
        return self.samples[index][0]

    def path(self, index: int) -> Path:
        return self.samples[index][1]


def is_folder(root: Path) -> bool:
    """Whether a folder holds folders of pictures, directly or one level further down."""
    return any(
        f.suffix.lower() in IMAGE_SUFFIXES
        for pattern in ("*/*", "*/*/*")
        for f in root.glob(pattern)
    )


def split_folder(root: Path, split: str) -> Path | None:
    """The folder of a split, or None where the set has no split folders.

    Raises:
        NoSplit: there are split folders, but not this one.
    """
    names = sorted(f.name for f in root.iterdir() if f.is_dir())
    for name in split_names(split):
        if name in names:
            return root / name
    others = [n for n in names if any(n in split_names(s) for s in ("train", "val", "test"))]
    # A class may be called "test"; a set whose every folder is a split is a set of splits
    if others and len(others) == len(names):
        raise NoSplit(f"{root}: no folder for split {split!r} (there are {', '.join(names)})")
    return None


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
