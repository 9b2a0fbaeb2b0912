"""Real handwritten digits on drawn backgrounds: a detection set that needs no download.

The digits are scikit-learn's copy of the test part of "Optical Recognition of Handwritten Digits"
(E. Alpaydin and C. Kaynak, UCI, 1998): 1,797 digits of 8x8 pixels by 13 people. Everything else is
drawn from a seed: item ``i`` is a function of (seed, split, i, sizes) alone, whatever was asked
for before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detcore.data.base import (
    ClassificationDataset,
    DetectionDataset,
    Item,
    Record,
    Transform,
)
from detcore.data.faults import DataError, NoSplit
from detcore.data.readers.digit_drawing import (
    Array,
    Corners,
    background,
    draw,
    draw_oriented,
    ink_colour,
)
from detcore.utils.optional_imports import require

# The digits come writer after writer, each beginning 0 1 2 .. 9 0 1 2 ..; a writer begins at 1415.
# Cut there, no handwriting, and not only no picture of a digit, is in both splits.
_FIRST_VAL = 1415
_SPLITS = {"train": 0, "val": 1}


@dataclass(frozen=True)
class DigitScenes:
    """How a picture of digits is made.

    size: side of the square picture, pixels. digits: fewest and most digits in it. height: least
    and greatest height of a drawn digit as a share of `size`. contrast: least difference in
    luminance (0..1) between a digit and the ground under it. aspect: least and greatest height of
    a digit as a multiple of its width; None: about as it was written. turn: greatest angle by which
    a digit is turned either way, radians. With an aspect the pictures are an oriented set, whose
    boxes are turned with the digits.
    """

    size: int = 128
    digits: tuple[int, int] = (1, 6)
    height: tuple[float, float] = (0.14, 0.42)
    contrast: float = 0.35
    aspect: tuple[float, float] | None = None
    turn: float = 0.15

    def __post_init__(self) -> None:
        if self.size < 32:
            raise DataError(f"digits: image size must be at least 32 pixels, got {self.size}")
        if not 0 <= self.digits[0] <= self.digits[1]:
            raise DataError(f"digits: digits must be (fewest, most), got {self.digits}")

    @classmethod
    def oriented(cls, size: int = 128) -> DigitScenes:
        """Two to four times as high as wide and turned by up to 90 degrees: the angle matters."""
        return cls(size=size, height=(0.25, 0.6), aspect=(2.0, 4.0), turn=np.pi / 2)


class Digits(DetectionDataset):
    """Several digits in each picture, in COCO form, without heavy overlap.

    Args:
        split: ``train`` or ``val``; the two share no handwriting.
        length: how many pictures there are.
        seed: which pictures they are.
        scenes: what they look like.
        transforms: applied to each item.

    Labels are digit + 1, since 0 is background; ``classes[label - 1]`` is the digit's name. Boxes
    hold the drawn ink exactly: each edge row and column of a box has ink in it. So do the sides of
    an oriented box, which lie along the digit's own axes.

    Raises:
        DataError: an unknown split or a senseless size.
        MissingPackage: scikit-learn is not installed.
    """

    mirror = False  # a mirrored 2 is no 2

    def __init__(
        self,
        split: str = "train",
        *,
        length: int = 10_000,
        seed: int = 0,
        scenes: DigitScenes | None = None,
        transforms: Transform | None = None,
    ) -> None:
        super().__init__([str(d) for d in range(10)], transforms)
        self.glyphs, self.sources, self.digit_of = _glyphs(_checked(split, length))
        self.split, self.length, self.seed = split, length, seed
        self.scenes = scenes or DigitScenes()
        self.oriented = self.scenes.aspect is not None

    def __len__(self) -> int:
        return self.length

    def record(self, index: int) -> Record:
        """The boxes and labels of one scene, without painting it."""
        return self._record(index, self._place(index)[1])

    def image(self, index: int) -> Tensor:
        """One scene as uint8 [3, size, size], RGB; the same for the same index and seed."""
        return self._paint(*self._place(index))

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of every scene, pixels."""
        return self.scenes.size, self.scenes.size

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < self.length:
            raise IndexError(f"Digits: index {index} of {self.length} items")
        rng, placed = self._place(index)  # once for both picture and target
        target = self._record(index, placed).target()
        image = self._paint(rng, placed)
        return self.transforms(image, target) if self.transforms else (image, target)

    def source_digits(self, index: int) -> list[int]:
        """Which of scikit-learn's 1,797 digits picture `index` shows."""
        return [self.sources[p.glyph] for p in self._place(index)[1]]

    def _place(self, index: int) -> tuple[np.random.Generator, list[_Placed]]:
        rng = np.random.default_rng([self.seed, _SPLITS[self.split], index])
        size, (low, high) = self.scenes.size, self.scenes.height
        placed: list[_Placed] = []
        for _ in range(int(rng.integers(self.scenes.digits[0], self.scenes.digits[1] + 1))):
            glyph = int(rng.integers(len(self.glyphs)))
            # log-uniform, so that small digits are as frequent as large ones octave by octave
            height = size * low * (high / low) ** float(rng.random())
            ink, corners = self._draw(glyph, height, rng)
            while max(ink.shape) > size:  # turned and slanted, a large one may not fit
                height *= 0.9
                ink, corners = self._draw(glyph, height, rng)
            h, w = ink.shape
            for _ in range(30):
                x, y = int(rng.integers(size - w + 1)), int(rng.integers(size - h + 1))
                if all(p.apart_from(x, y, w, h) for p in placed):
                    placed.append(_Placed(glyph, x, y, ink, corners))
                    break
        return rng, placed

    def _draw(
        self, glyph: int, height: float, rng: np.random.Generator
    ) -> tuple[Array, Corners | None]:
        """The ink of a digit, and in an oriented set the corners of its box, pixels of the ink."""
        if self.scenes.aspect is None:
            return draw(self.glyphs[glyph], height, self.scenes.turn, rng), None
        low, high = self.scenes.aspect
        aspect = low * (high / low) ** float(rng.random())
        return draw_oriented(self.glyphs[glyph], height, aspect, self.scenes.turn, rng)

    def _record(self, index: int, placed: list[_Placed]) -> Record:
        name = f"digits-{self.split}-{self.seed}-{index:06d}.png"
        if self.oriented:
            corners = [p.corners + np.tile([p.x, p.y], 4) for p in placed if p.corners is not None]
            labels = [self.digit_of[p.glyph] + 1 for p in placed]
            size, ignore = (self.scenes.size, self.scenes.size), [False] * len(placed)
            return Record.of_corners(index + 1, name, size, corners, labels, ignore)
        boxes = np.array([(p.x, p.y, p.x + p.ink.shape[1], p.y + p.ink.shape[0]) for p in placed])
        boxes = boxes.reshape(-1, 4).astype(np.float64)
        return Record(
            image_id=index + 1,
            file_name=name,
            width=self.scenes.size,
            height=self.scenes.size,
            boxes=boxes,
            labels=np.array([self.digit_of[p.glyph] + 1 for p in placed], np.int64),
            area=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
            iscrowd=np.zeros(len(placed), bool),
            ignore=np.zeros(len(placed), bool),
        )

    def _paint(self, rng: np.random.Generator, placed: list[_Placed]) -> Tensor:
        canvas = background(rng, self.scenes.size)
        for p in placed:
            h, w = p.ink.shape
            patch = canvas[:, p.y : p.y + h, p.x : p.x + w]
            colour = ink_colour(rng, patch, self.scenes.contrast)[:, None, None]
            patch += p.ink * (colour - patch)
        canvas += rng.normal(0, rng.uniform(0, 0.04), canvas.shape).astype(np.float32)
        return torch.from_numpy((canvas.clip(0, 1) * 255).round().astype(np.uint8))


class DigitPatches(ClassificationDataset):
    """The same digits one per picture, filling most of it: for the classifier.

    Target: ``label`` int64 scalar tensor 0..9, ``image_id`` int. The rest is as in `Digits`.
    """

    mirror = False

    def __init__(
        self,
        split: str = "train",
        *,
        length: int = 10_000,
        seed: int = 0,
        size: int = 32,
        transforms: Transform | None = None,
    ) -> None:
        scenes = DigitScenes(size=size, digits=(1, 1), height=(0.55, 0.95))
        self.scene = Digits(split, length=length, seed=seed, scenes=scenes)
        super().__init__(self.scene.classes, transforms)

    def __len__(self) -> int:
        return len(self.scene)

    def image(self, index: int) -> Tensor:
        """One digit as uint8 [3, size, size], RGB."""
        return self.scene.image(index)

    def label(self, index: int) -> Tensor:
        """The digit, an int64 scalar in 0..9."""
        return torch.tensor(int(self.scene.record(index).labels[0]) - 1)

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of every image, pixels."""
        return self.scene.size(index)

    def __getitem__(self, index: int) -> Item:
        image, target = self.scene[index]  # once for both picture and target
        target = {"label": target["labels"][0] - 1, "image_id": target["image_id"]}
        return self.transforms(image, target) if self.transforms else (image, target)


@dataclass(frozen=True)
class _Placed:
    glyph: int
    x: int  # pixels, left edge
    y: int  # pixels, top edge
    ink: Array  # [h, w], 0..1
    corners: Corners | None  # [8], of an oriented box, pixels of the ink

    def apart_from(self, x: int, y: int, w: int, h: int) -> bool:
        """Whether the box shares at most a tenth of the smaller one's area."""
        h0, w0 = self.ink.shape
        across = max(0, min(x + w, self.x + w0) - max(x, self.x))
        down = max(0, min(y + h, self.y + h0) - max(y, self.y))
        return across * down <= 0.1 * min(w * h, w0 * h0)


def _checked(split: str, length: int) -> str:
    if split not in _SPLITS:
        raise NoSplit(f"digits: split must be train or val, got {split!r}")
    if length < 1:
        raise DataError(f"digits: length must be at least 1, got {length}")
    return split


@lru_cache(maxsize=2)
def _glyphs(split: str) -> tuple[list[Array], list[int], list[int]]:
    """Glyphs cropped to their ink [h <= 8, w <= 8] 0..1, their numbers in scikit-learn, digits."""
    found: Any = require("sklearn.datasets", "scikit-learn").load_digits()
    sources = range(_FIRST_VAL) if split == "train" else range(_FIRST_VAL, len(found.images))
    glyphs = []
    for s in sources:
        rows, columns = np.nonzero(found.images[s] >= 4)
        crop = found.images[s][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        glyphs.append((crop / 16).astype(np.float32))
    return glyphs, list(sources), [int(found.target[s]) for s in sources]
