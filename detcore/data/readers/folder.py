"""Classification from a folder of folders: one folder per class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from detcore.data.base import ClassificationDataset, Transform
from detcore.data.faults import DataError
from detcore.data.files import (
    files_in,
    folders_in,
    is_picture,
    pictures_under,
    tell_of_others,
)
from detcore.data.images import read_image
from detcore.data.splits import hashed_split, part, split_folders, split_of

_Sample = tuple[int, Path, int]  # number from 1, file, class from 0


class Folder(ClassificationDataset):
    """Pictures sorted into one folder per class, as torchvision's ImageFolder has them.

    Args:
        root: holds the class folders, or one folder per split that holds them.
        split: the split's folder; where there is none, ``train`` and ``val`` are 80% and 20% by
            a hash of the file name, and ``all`` is everything.
        leave: class folders to pass over.
        val_share: share of the training pictures to hold out if the data has no validation split;
            see `detcore.data.splits`.
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
        val_share: float | None = None,
        transforms: Transform | None = None,
    ) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder")
        folders = split_folders(self.root)
        asked = split_of(split) or split
        read = [f for s, f in folders.items() if split == "all" or s == asked]
        # without a folder for validation a share of the training pictures is
        read = read or [folders[s] for s in ("train",) if s in folders] or [self.root]
        classes = sorted({c.name for f in read for c in folders_in(f)} - set(leave))
        listed = {f: _samples(f, classes) for f in read}
        if folders:
            own = {f.name: listed.get(f, []) for f in folders.values()}
            chosen = part(own, split, self.root, name_of=_name, val_share=val_share)
        else:
            samples = listed[self.root]
            keep = set(hashed_split(map(_name, samples), split, self.root, val_share))
            chosen = [sample for sample in samples if _name(sample) in keep]
        if not chosen:
            raise DataError(f"{self.root}: no pictures for split {split!r} in one folder a class")
        super().__init__(classes, transforms)
        self.samples = chosen

    def __len__(self) -> int:
        return len(self.samples)

    def image(self, index: int) -> Tensor:
        """One image as uint8 [3, H, W], RGB. Raises DamagedImage if it cannot be decoded."""
        return read_image(self.path(index))

    def label(self, index: int) -> Tensor:
        """The class index, an int64 scalar: the position of the folder's name in `classes`."""
        return torch.tensor(self.samples[index][2])

    def image_id(self, index: int) -> int:
        """A number that stays the same for a file when images are left out."""
        return self.samples[index][0]

    def path(self, index: int) -> Path:
        """The file of one image."""
        return self.samples[index][1]


def is_folder(root: Path) -> bool:
    """Whether a folder holds folders of pictures, directly or one level further down."""
    return any(is_picture(file) for file in files_in(root, "*/*", "*/*/*"))


def _samples(folder: Path, classes: Sequence[str]) -> list[_Sample]:
    tell_of_others(folder, [f for f in files_in(folder, "*") if is_picture(f)])
    label_of = {name: label for label, name in enumerate(classes)}
    pictures = [
        (path, label_of[inside.name])
        for inside in folders_in(folder)
        if inside.name in label_of
        for path in pictures_under(inside)
    ]
    return [(number, path, label) for number, (path, label) in enumerate(pictures, start=1)]


def _name(sample: _Sample) -> str:
    """What its side hangs on where a folder is shared out: class folder and file."""
    return f"{sample[1].parent.name}/{sample[1].name}"
