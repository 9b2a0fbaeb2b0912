"""Batches for training: an endless, seeded stream that can be taken up at any position."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from detcore.data.base import Item, Target, Transform

Batch = tuple[list[Tensor], list[Target]]


@dataclass(frozen=True)
class Stream:
    """How training items are drawn.

    batch_size: items a batch, on this process. seed: of the order and of the augmentation.
    workers: loader processes; 0 loads in the training process. start: items (over all processes)
    that were already seen. rank, world: this process and how many there are; each takes every
    world-th item of one common order.
    """

    batch_size: int
    seed: int = 0
    workers: int = 0
    start: int = 0
    rank: int = 0
    world: int = 1


def training_loader(
    dataset: Dataset[Item], stream: Stream, augment: Transform | None = None
) -> DataLoader[Any]:
    """An endless loader of `Batch`es: ``(list of images, list of targets)``.

    Every image comes once before any comes again, in an order new each time round; batches run
    across that border, so that none is ever short. What position p of the stream holds, its
    augmentation included, is a function of (seed, p) alone: not of batch size, workers or
    processes. Each target gets a ``sampling_seed``, by which a model that learns from a random
    part of its proposals draws them.
    """
    positions = _Order(len(dataset), stream)  # type: ignore[arg-type]
    return DataLoader(
        _Seeded(dataset, augment, stream.seed),
        batch_size=stream.batch_size,
        sampler=positions,
        num_workers=stream.workers,
        collate_fn=collate,
        # its own: else starting a loader would move the model's randomness
        generator=torch.Generator().manual_seed(stream.seed),
        prefetch_factor=4 if stream.workers else None,
    )


def evaluation_loader(dataset: Dataset[Item], batch_size: int, workers: int = 0) -> DataLoader[Any]:
    """Each item once, in order, as `Batch`es; nothing is augmented."""
    return DataLoader(
        dataset, batch_size=batch_size, shuffle=False, num_workers=workers, collate_fn=collate
    )


def collate(items: list[Item]) -> Batch:
    """Images and targets as two lists: images of one batch differ in size."""
    return [image for image, _ in items], [target for _, target in items]


class _Order(Sampler[tuple[int, int]]):
    """Endless (index, position) pairs."""

    def __init__(self, length: int, stream: Stream) -> None:
        self.length, self.stream = length, stream

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, turn, order = self.stream.start + self.stream.rank, -1, []
        while True:
            if position // self.length != turn:
                turn = position // self.length
                generator = torch.Generator().manual_seed(_mix(self.stream.seed, turn))
                order = torch.randperm(self.length, generator=generator).tolist()
            yield order[position % self.length], position
            position += self.stream.world


class _Seeded(Dataset[Item]):
    """Draws each item's augmentation from its own position in the stream."""

    def __init__(self, dataset: Dataset[Item], augment: Transform | None, seed: int) -> None:
        self.dataset, self.augment, self.seed = dataset, augment, seed

    def __getitem__(self, place: tuple[int, int]) -> Item:
        index, position = place
        # fork_rng: the model's own randomness in this process must not see the loader's
        with one_thread(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(_mix(self.seed, position) ^ 0x5DEECE66D)
            image, target = self.dataset[index]
            if self.augment:
                image, target = self.augment(image, target)
        return image, {**target, "sampling_seed": _mix(self.seed, position) ^ 0x2545F4914F6CDD1D}


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on the calling thread alone.

    The dozens of small operations on one picture wait longer for a second thread to wake than they
    work: with two, augmenting took 7 ms a picture of 128 pixels, with one 1 ms.
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
