"""Random inputs of the ops; the generator determines the whole case."""

import math
import random
from typing import Any

import torch
from torch import Tensor

from tests.ops.conftest import FLOATS, Backend

PRIMES = (2, 3, 5, 7, 13, 31, 61, 97, 127, 257, 509)


class Draw:
    """Draws the parts of a case."""

    def __init__(self, rng: random.Random, backend: Backend) -> None:
        self.random = rng
        self.torch = torch.Generator().manual_seed(self.random.getrandbits(60))
        self.simulated = backend.simulated
        self.told: list[Any] = []  # the choices, for error messages

    def __call__(self, *choices: Any) -> Any:
        self.told.append(self.random.choice(choices))
        return self.told[-1]

    def size(self, most: int) -> int:
        """0, 1, primes, 2^k and its neighbours, or any size; a third of that in the simulator."""
        most = max(most // 3, 4) if self.simulated else most
        sizes = (0, 1, *PRIMES, *(2**k + d for k in range(2, 10) for d in (-1, 0, 1)), -1, -1)
        found = self.random.choice(sizes)
        return self(found if 0 <= found <= most else self.random.randint(1, most))

    def dtype(self) -> torch.dtype:
        return self(torch.float32, *FLOATS)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.torch, dtype=torch.float64)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.torch, dtype=torch.float64)

    def integers(self, below: int, *shape: int) -> Tensor:
        return torch.randint(0, max(below, 1), shape, generator=self.torch)

    def boxes(self, n: int, odd: bool = False) -> Tensor:
        """[n, 4] float64 xyxy; odd: some without area, inverted, infinite, or with NaN."""
        extent, side = 10 ** self.random.uniform(0.5, 3), 10 ** self.random.uniform(0, 2.5)
        low, size = self.uniform(n, 2) * extent, self.uniform(n, 2) * side + 0.5
        kind = self("uniform", "uniform", "whole", "clusters", "same", "nested", "thin")
        if kind == "clusters":
            low = low[self.integers(self.random.randint(1, 5), n) % max(n, 1)] + self.normal(n, 2)
        elif kind == "same":
            low, size = low[:1].expand(n, 2), size[:1].expand(n, 2)
        elif kind == "nested":
            low, size = -size, 2 * size
        elif kind == "thin":
            size = size * torch.tensor(self([1, 30.0], [30.0, 1]))
        elif kind == "whole":
            low, size = low.round(), size.ceil()
        boxes = torch.cat((low, low + size), 1)
        if odd and n and self(True, False):
            pick = self.integers(n, max(n // 5, 1))
            corner = self.integers(4, len(pick))
            boxes[pick, corner] = self(0.0, math.nan, math.inf, -math.inf, 1e6, 1e-30)
        return boxes

    def rotated(self, n: int, odd: bool = False) -> Tensor:
        """[n, 5] float64 cxcywhr; odd: some numbers 0, negative, NaN, infinite or huge."""
        boxes = self.boxes(n)
        size = boxes[:, 2:] - boxes[:, :2]
        angle = self.uniform(n, 1) * self(0, 1, 90, 720) + self(0, 90, -180, 1e5)
        turned = torch.cat((boxes[:, :2] + size / 2, size, angle), 1)
        if odd and n and self(True, False):
            pick = self.integers(n, max(n // 5, 1))
            number = self.integers(5, len(pick))
            turned[pick, number] = self(0.0, -3.0, math.nan, math.inf, -math.inf, 1e4)
        return turned

    def in_space(self, n: int, odd: bool = False) -> Tensor:
        """[n, 7] float64 x, y, z, dx, dy, dz, yaw; odd: as `rotated`."""
        x, y, dx, dy, degrees = self.rotated(n, odd).split(1, 1)
        z, dz = self.normal(n, 1) * self(0, 1, 30), self.uniform(n, 1) * self(1, 50) + 0.5
        if odd and n and self(True, False):
            dz[self.integers(n, 2)] = self(0.0, -3.0, math.nan, math.inf, 1e4)
        return torch.cat((x, y, z, dx, dy, dz, degrees.deg2rad()), 1)

    def plain_boxes(self, n: int) -> Tensor:
        """[n, 4] float64 as in the other tests: all different."""
        low = 100 * self.uniform(n, 2)
        return torch.cat((low, low + 1 + 40 * self.uniform(n, 2)), 1)

    def scores(self, n: int, odd: bool = False) -> Tensor:
        """[n] float64 in [0, 1), often with many ties; odd: some NaN, infinite or negative."""
        levels = self(None, 1, 3, 20, 300)
        scores = self.uniform(n) if levels is None else (self.uniform(n) * levels).floor() / levels
        if odd and n and self(True, False):
            pick = self.integers(n, max(n // 6, 1))
            scores[pick] = self(math.nan, math.inf, -math.inf, -0.0, -1.0)
        return scores

    def threshold(self) -> float:
        return self(0.0, 1.0, 0.3, 0.5, 0.6, 1 / 3, self.random.random(), self.random.random())

    def view(self, x: Tensor) -> Tensor:
        """The same values in a random memory layout."""
        way = self("dense", "dense", "every other", "inside", "turned", "offset")
        if way == "every other" and x.dim():
            return x.repeat_interleave(2, 0)[::2]
        if way == "inside" and x.dim():
            wide = torch.full([s + 3 for s in x.shape], math.nan).to(x.dtype)
            at = tuple(slice(2, 2 + s) for s in x.shape)
            wide[at] = x
            return wide[at]
        if way == "turned":
            last = list(range(x.dim()))[::-1]
            return x.permute(last).contiguous().permute(last)
        if way == "offset":  # contiguous, but not aligned to 16 bytes
            return torch.cat((x.new_zeros(1), x.flatten()))[1:].view(x.shape)
        return x
