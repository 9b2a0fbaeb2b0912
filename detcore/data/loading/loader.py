"""Batches for training: an endless, seeded stream that can be taken up at any position."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from detcore.data.base import (
    ClassificationDataset,
    DetectionDataset,
    Item,
    Target,
    Transform,
    log,
)
from detcore.data.faults import DamagedImage, DataError
from detcore.data.loading.transforms import Augment, mosaic

Batch = tuple[list[Tensor], list[Target]]

_TRIES = 8  # damaged pictures in a row, at a place in the stream, before the run ends
_NAMED = 5  # damaged pictures named at the end


@dataclass(frozen=True)
class Stream:
    """How training items are drawn.

    batch_size: items a batch, on this process. seed: of the order and of the augmentation.
    workers: loader processes, each four batches ahead; 0 loads in the training process. start:
    items (over all processes) that were already seen. rank, world: this process and how many there
    are; each takes every world-th item of one common order. group_aspect: fill each batch with
    pictures of like aspect ratio. max_damaged: share of the data set's pictures that may be
    damaged.
    """

    batch_size: int
    seed: int = 0
    workers: int = 0
    start: int = 0
    rank: int = 0
    world: int = 1
    group_aspect: bool = False
    max_damaged: float = 0.05


def training_loader(
    dataset: Dataset[Item], stream: Stream, augment: Transform | None = None
) -> Batches:
    """An endless loader of `Batch`es: ``(list of images, list of targets)``.

    Every image comes once before any comes again, in an order new each time round; batches run
    across that border, so that none is ever short. What position p of the stream holds, its
    augmentation included, is a function of (seed, p) alone: not of workers or processes, nor of
    batch size unless `Stream.group_aspect`. Each target gets a ``sampling_seed``, by which a model
    that learns from a random part of its proposals draws them.

    Grouped by aspect ratio, in thirds of an octave from 1:2 to 2:1, the pictures of a batch need
    little padding (the idea of torchvision's detection references). The leftovers of all groups
    end each round in mixed batches. All the headers are read for it first.

    A damaged picture's place is taken by another, drawn from (seed, p); see `Damage`.
    """
    positions = _Order(dataset, stream)
    loader: DataLoader[Any] = DataLoader(
        _Seeded(dataset, augment, stream.seed),
        batch_size=stream.batch_size,
        sampler=positions,
        num_workers=stream.workers,
        collate_fn=_gather,
        # its own: else starting a loader would move the model's randomness
        generator=torch.Generator().manual_seed(stream.seed),
        prefetch_factor=4 if stream.workers else None,
    )
    return Batches(loader, Damage(_length(dataset), stream.max_damaged, "others took their place"))


def evaluation_loader(
    dataset: Dataset[Item], batch_size: int, workers: int = 0, max_damaged: float = 0.05
) -> Batches:
    """Each item once, in order, as `Batch`es; nothing is augmented, damaged pictures are absent."""
    loader: DataLoader[Any] = DataLoader(
        _Readable(dataset),
        batch_size=batch_size,
        shuffle=False,
        num_workers=workers,
        collate_fn=_gather,
    )
    return Batches(loader, Damage(_length(dataset), max_damaged, "they were left out"))


class Damage:
    """Counts the damaged pictures that a loader met.

    Args:
        length: pictures in all. most: share of them that may be damaged.
        then: what happens to them, for the report.

    Attributes:
        found: text of each, by its index in the data set.
    """

    def __init__(self, length: int, most: float, then: str) -> None:
        self.length, self.most, self.then = length, most, then
        self.found: dict[int, str] = {}

    def note(self, index: int, text: str) -> None:
        """Take up one; the first is logged.

        Raises:
            DataError: they are more than the share that may be.
        """
        if index in self.found:
            return
        first = not self.found
        self.found[index] = text
        if len(self.found) > self.most * self.length:
            raise DataError(
                f"{len(self.found)} of {self.length} pictures are damaged, more than the share of "
                f"{self.most:g} that may be (max_damaged): {self._named()}"
            )
        if first:
            log.warning("%s; continuing without it", text)

    def report(self) -> None:
        """Log how many there were, and the first by name."""
        if self.found:
            log.warning(
                "%d of %d pictures are damaged, %s: %s",
                len(self.found),
                self.length,
                self.then,
                self._named(),
            )

    def _named(self) -> str:
        more = ", ..." if len(self.found) > _NAMED else ""
        return ", ".join(list(self.found.values())[:_NAMED]) + more


class Batches:
    """Iterates over `Batch`es and counts in `damage` what was damaged in those handed out."""

    def __init__(self, loader: DataLoader[Any], damage: Damage) -> None:
        self.loader, self.damage = loader, damage

    def __iter__(self) -> Iterator[Batch]:
        for items in self.loader:
            for item in items:
                for index, text in item.damaged:
                    self.damage.note(index, text)
                if item.image is None and len(item.damaged) >= _TRIES:
                    raise DataError(
                        f"{_TRIES} pictures in a row are damaged, the last: {item.damaged[-1][1]}"
                    )
            kept = [item for item in items if item.image is not None]
            if kept:
                yield [item.image for item in kept], [item.target for item in kept]


class _Drawn(NamedTuple):
    """What a worker hands over: an item or None, and the (index, text) of damaged pictures."""

    image: Tensor | None
    target: Target
    damaged: list[tuple[int, str]]


def _gather(items: list[_Drawn]) -> list[_Drawn]:
    """As they are: images of one batch differ in size."""
    return items


class _Order(Sampler[tuple[int, int]]):
    """Endless (index, position) pairs."""

    def __init__(self, dataset: Dataset[Item], stream: Stream) -> None:
        self.length, self.stream = _length(dataset), stream
        self.groups = aspect_groups(dataset) if stream.group_aspect else None

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, turn, order = self.stream.start + self.stream.rank, -1, []
        while True:
            if position // self.length != turn:
                turn = position // self.length
                order = self._turn(turn)
            yield order[position % self.length], position
            position += self.stream.world

    def _turn(self, turn: int) -> list[int]:
        generator = torch.Generator().manual_seed(_mix(self.stream.seed, turn))
        order: list[int] = torch.randperm(self.length, generator=generator).tolist()
        if self.groups is None:
            return order
        batch = self.stream.batch_size * self.stream.world
        # the last batch of the turn before reaches into this one
        head = -turn * self.length % batch
        filling: defaultdict[int, list[int]] = defaultdict(list)
        grouped = order[:head]
        for index in order[head:]:
            group = filling[self.groups[index]]
            group.append(index)
            if len(group) == batch:
                grouped += group
                group.clear()
        return grouped + [index for _, group in sorted(filling.items()) for index in group]


def aspect_groups(dataset: Dataset[Item]) -> list[int]:
    """Each image's group: width / height in thirds of an octave, -3 (1:2 and taller) to 3.

    Raises:
        ValueError: the data set doesn't tell its images' sizes.
    """
    if not isinstance(dataset, DetectionDataset | ClassificationDataset):
        raise ValueError(f"group_aspect needs a data set with sizes, got {type(dataset).__name__}")
    groups = []
    for index in range(len(dataset)):
        try:
            width, height = dataset.size(index)
        except DamagedImage:
            width = height = 1  # whoever takes its place may be of any shape
        octaves = math.log2(max(width, 1) / max(height, 1))
        groups.append(max(-3, min(3, round(3 * octaves))))
    return groups


class _Seeded(Dataset[_Drawn]):
    """Draws each item's augmentation from its own position in the stream."""

    def __init__(self, dataset: Dataset[Item], augment: Transform | None, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, place: tuple[int, int]) -> _Drawn:
        index, position = place
        damaged: list[tuple[int, str]] = []
        # fork_rng: the model's own randomness in this process must not see the loader's
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mix(self.seed, position) ^ 0x5DEECE66D)
            item = self._sound(index, position, damaged)
            if item is not None and isinstance(self.augment, Augment) and self.augment.mosaic > 0:
                item = self._mosaic(item, position, damaged, self.augment)
            if item is None:
                return _Drawn(None, {}, damaged)
            image, target = self.augment(*item) if self.augment else item
            seed = _mix(self.seed, position) ^ 0x2545F4914F6CDD1D
            return _Drawn(image, {**target, "sampling_seed": seed}, damaged)

    def _mosaic(
        self, first: Item, position: int, damaged: list[tuple[int, str]], augment: Augment
    ) -> Item | None:
        if torch.rand(()) >= augment.mosaic:
            return first
        items: list[Item] = [first]
        for index in torch.randint(_length(self.dataset), (3,)).tolist():
            item = self._sound(index, position, damaged)
            if item is None:
                return None
            items.append(item)
        return mosaic(items, longest=augment.longest, least_visible=augment.least_visible)

    def _sound(self, index: int, position: int, damaged: list[tuple[int, str]]) -> Item | None:
        """Item `index`, or if that is damaged another; None where none is found."""
        for _ in range(_TRIES):
            try:
                return self.dataset[index]
            except DamagedImage as error:
                damaged.append((index, str(error)))
                generator = torch.Generator().manual_seed(
                    _mix(_mix(self.seed, position), len(damaged))
                )
                index = int(torch.randint(_length(self.dataset), (), generator=generator))
        return None


class _Readable(Dataset[_Drawn]):
    """The items as they are; of a damaged one, its text."""

    def __init__(self, dataset: Dataset[Item]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return _length(self.dataset)

    def __getitem__(self, index: int) -> _Drawn:
        try:
            image, target = self.dataset[index]
        except DamagedImage as error:
            return _Drawn(None, {}, [(index, str(error))])
        return _Drawn(image, target, [])


def _length(dataset: Dataset[Item]) -> int:
    return len(dataset)  # type: ignore[arg-type]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on the calling thread alone.

    The dozens of small operations on one picture wait longer for a second thread to wake than they
    work: with two, augmenting took 7 ms per picture of 128 pixels, with one 1 ms.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _mix(seed: int, number: int) -> int:
    """One 63-bit seed out of two numbers, by splitmix64's finalizer (Steele et al., 2014)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + number + 1) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return (mixed ^ (mixed >> 31)) >> 1
