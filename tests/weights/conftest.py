"""Writes small Darknet files, float by float."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from detcore.weights import Darknet, load_darknet

NET = "[net]\nwidth=12\nheight=8\nchannels=3\n"


class Floats:
    """Random weights in the order of the file. Every draw is stored, to be written."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.drawn: list[Tensor] = []

    def draw(self, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=self.generator)
        self.drawn.append(values.flatten())
        return values

    def variance(self, count: int) -> Tensor:
        values = torch.rand(count, generator=self.generator) + 0.1
        self.drawn.append(values)
        return values

    def file(self, version: Sequence[int] = (0, 2, 5)) -> bytes:
        seen = struct.pack("<q" if version[0] * 10 + version[1] >= 2 else "<i", 64)
        drawn = torch.cat(self.drawn) if self.drawn else torch.empty(0)
        return struct.pack("<3i", *version) + seen + drawn.numpy().astype("<f4").tobytes()


@pytest.fixture(autouse=True)
def alone(one_thread: None) -> None:
    """Run every test of this folder on one thread."""


@pytest.fixture
def floats() -> Floats:
    return Floats()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, bytes], tuple[Path, Path]]:
    """Write a cfg and a weights file, and return their paths."""

    def write(cfg: str, weights: bytes) -> tuple[Path, Path]:
        paths = tmp_path / "net.cfg", tmp_path / "net.weights"
        paths[0].write_text(cfg)
        paths[1].write_bytes(weights)
        return paths

    return write


@pytest.fixture
def loaded(written: Callable[[str, bytes], tuple[Path, Path]]) -> Callable[..., Darknet]:
    def load(cfg: str, floats: Floats, **options: float) -> Darknet:
        return load_darknet(*written(cfg, floats.file()), **options)

    return load
