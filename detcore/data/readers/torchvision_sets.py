"""Classification sets of known names, by torchvision's readers and its folder rules.

Nothing is fetched: who lacks the files is told where to put them.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset
from torchvision import datasets

from detcore.data.base import ClassificationDataset, Transform
from detcore.data.faults import DataError, NoSplit
from detcore.data.files import folders_in
from detcore.data.readers.folder import Folder
from detcore.data.splits import is_named, split_of

_WORDNET = re.compile(r"n\d{8}")
_TEN = tuple(str(digit) for digit in range(10))
# what torchvision's readers let out on files cut short
_DAMAGE = (
    OSError,
    ValueError,
    AssertionError,
    KeyError,
    EOFError,
    IndexError,
    pickle.UnpicklingError,
    struct.error,
)


class Packed(ClassificationDataset):
    """A set that torchvision reads from archive files into memory.

    pictures: gives (PIL image, class index from 0). Grey becomes RGB.
    """

    def __init__(
        self, pictures: Any, classes: Sequence[str], transforms: Transform | None = None
    ) -> None:
        super().__init__(classes, transforms)
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def image(self, index: int) -> Tensor:
        """One image as uint8 [3, H, W], RGB."""
        pixels = np.array(self.pictures[index][0].convert("RGB"))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def label(self, index: int) -> Tensor:
        """The class index, an int64 scalar."""
        return torch.tensor(int(self.pictures[index][1]))


def cifar10(
    root: str | Path,
    split: str = "train",
    *,
    transforms: Transform | None = None,
) -> Packed:
    """CIFAR-10 (Krizhevsky, 2009), 32 x 32 pixels, from ``cifar-10-batches-py``.

    Args:
        root: that folder, or the one that holds it.
        split: ``train`` (50,000 images), ``val`` or ``test`` (both the 10,000 test images; there
            is no other part), or ``all``.

    Raises:
        DataError: files are missing or not the published ones (torchvision compares checksums).
    """
    base = _holder(Path(root), "cifar-10-batches-py")
    advice = "put cifar-10-python.tar.gz's folder cifar-10-batches-py there, unpacked"
    parts = _parts(datasets.CIFAR10, base, split, advice)
    return Packed(ConcatDataset(parts), parts[0].classes, transforms)


def mnist(
    root: str | Path,
    split: str = "train",
    *,
    transforms: Transform | None = None,
) -> Packed:
    """MNIST (LeCun et al., 1998), 28 x 28 pixels, from ``MNIST/raw``.

    Classes are "0" to "9"; the set has no mirror images. For all else see `cifar10`: 60,000
    training images, 10,000 of test.
    """
    parts = _idx(datasets.MNIST, "MNIST", root, split)
    packed = Packed(ConcatDataset(parts), _TEN, transforms)
    packed.mirror = False  # a mirrored 2 is no 2
    return packed


def fashion_mnist(
    root: str | Path,
    split: str = "train",
    *,
    transforms: Transform | None = None,
) -> Packed:
    """Fashion-MNIST (Xiao et al., 2017), 28 x 28 pixels, from ``FashionMNIST/raw``; see `mnist`."""
    parts = _idx(datasets.FashionMNIST, "FashionMNIST", root, split)
    return Packed(ConcatDataset(parts), parts[0].classes, transforms)


def caltech256(
    root: str | Path,
    split: str = "train",
    *,
    clutter: bool = True,
    val_share: float | None = None,
    transforms: Transform | None = None,
) -> Folder:
    """Caltech-256 (Griffin et al., 2007), from ``256_ObjectCategories``.

    Args:
        root: that folder, or the one that holds it, or the one that holds ``caltech256`` with it.
        split: the set has none: ``train`` and ``val`` are 80% and 20% by a hash of the file name.
        clutter: whether ``257.clutter``, pictures of none of the 256, is a class too.

    Read as a folder of folders and not by torchvision's reader, which takes the pictures' names
    for granted: damaged ones can be named so. Classes have their folders' names without number.
    """
    name = "256_ObjectCategories"
    candidates = (Path(root), Path(root) / name, Path(root) / "caltech256" / name)
    base = next((c for c in candidates if c.name == name and c.is_dir()), None)
    if base is None:
        raise DataError(
            f"{root}: no Caltech-256; unpack 256_ObjectCategories.tar there "
            f"(looked for {', '.join(str(c) for c in candidates[1:])})"
        )
    leave = () if clutter else ("257.clutter",)
    data = Folder(base, split, leave=leave, val_share=val_share, transforms=transforms)
    data.classes = [c.partition(".")[2] or c for c in data.classes]
    return data


def imagenet(
    root: str | Path,
    split: str = "train",
    *,
    val_share: float | None = None,
    transforms: Transform | None = None,
) -> Folder:
    """ImageNet's 1,000 classes (Russakovsky et al., IJCV 2015) in folders.

    Args:
        root: holds ``train/n01440764/*.JPEG`` and ``val/n01440764/*.JPEG``, as torchvision's
            ImageNet and common scripts leave them.
        split: ``train`` or ``val``.

    Classes are the WordNet ids that name the folders: the words for them are not unique ("crane"
    is two).
    """
    base = Path(root)
    folders = folders_in(base) if base.is_dir() else []
    if not any(split_of(f.name) in ("train", "val") for f in folders):
        raise DataError(
            f"{base}: no ImageNet; wanted train/ and val/ with one folder a class (n01440764, ...)"
        )
    flat = next((f for f in folders if is_named(f.name, split)), None)
    if flat is not None and not folders_in(flat):
        raise DataError(
            f"{flat}: no class folders; ImageNet's validation archive is flat, sort its pictures "
            f"into one folder a class first (torchvision.datasets.ImageNet does so)"
        )
    return Folder(base, split, val_share=val_share, transforms=transforms)


def recognised(root: Path) -> list[str]:
    """Which of these sets a folder holds, to judge by the names in it."""
    marks = {
        "cifar10": ("cifar-10-batches-py/batches.meta", "batches.meta"),
        "mnist": ("MNIST/raw",),
        "fashion-mnist": ("FashionMNIST/raw",),
        "caltech256": ("256_ObjectCategories", "caltech256/256_ObjectCategories"),
    }
    found = [name for name, paths in marks.items() if any((root / p).exists() for p in paths)]
    if root.name == "256_ObjectCategories":
        found.append("caltech256")
    return found


def is_imagenet(root: Path) -> bool:
    """Whether train/ or val/ holds folders named by WordNet ids; there may be XML beside them."""
    parts = [f for f in folders_in(root) if split_of(f.name) in ("train", "val")]
    return any(_WORDNET.fullmatch(c.name) for f in parts for c in folders_in(f)[:20])


def _holder(root: Path, name: str) -> Path:
    """torchvision wants the folder that holds `name`; users name either."""
    return root.parent if root.name == name and root.is_dir() else root


def _idx(reader: Any, name: str, root: str | Path, split: str) -> list[Any]:
    base = Path(root)
    base = base.parent if base.name == "raw" and base.is_dir() else base
    advice = f"put its four files there in {name}/raw, unpacked (train-images-idx3-ubyte, ...)"
    return _parts(reader, _holder(base, name), split, advice)


def _parts(reader: Any, base: Path, split: str, advice: str) -> list[Any]:
    wanted = {"train": (True,), "val": (False,), "test": (False,), "all": (True, False)}
    if split not in wanted:
        raise NoSplit(f"{base}: split must be train, val, test or all, got {split!r}")
    try:
        return [reader(str(base), train=train, download=False) for train in wanted[split]]
    except RuntimeError as error:
        # torchvision's own words advise to download
        missing = f"{base}: {reader.__name__} is not here, or its files are damaged"
        raise DataError(f"{missing}; {advice}") from error
    except _DAMAGE as error:
        raise DataError(f"{base}: {reader.__name__}'s files are damaged ({error})") from error
