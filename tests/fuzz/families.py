"""All fuzzers by name. Seed, family name and number determine a case."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from detcore.ops import _route
from detcore.ops._native import _C
from tests.fuzz.command_line import CommandLineFuzz
from tests.fuzz.kitti import KittiResultsFuzz
from tests.fuzz.ops import CHECKS, OpFuzz
from tests.fuzz.readers import FORMS, ReaderFuzz
from tests.fuzz.splits import SplitFuzz
from tests.fuzz.weights import CheckpointFuzz, DarknetFuzz
from tests.ops.conftest import SIMT, Backend


class Family(Protocol):
    """Cases of one kind."""

    def case(self, rng: random.Random) -> None:
        """Run one case; raises an exception if something is wrong."""


GROUPS: dict[str, tuple[str, ...]] = {
    "ops": tuple(CHECKS),
    "readers": (*FORMS, "splits", "kitti_results"),
    "weights": ("checkpoints", "darknet_files"),
    "commands": ("command_line",),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)


def chosen(only: str | None) -> tuple[str, ...]:
    """The families of a group, the family with this name, or all.

    Raises:
        ValueError: `only` is neither a group nor a family.
    """
    if only is None:
        return NAMES
    if only not in GROUPS and only not in NAMES:
        raise ValueError(f"no family {only!r}; there are {', '.join((*GROUPS, *NAMES))}")
    return GROUPS.get(only, (only,))


def make(name: str, place: Path, backend: Backend) -> Family:
    """Make a family, with its files in a new folder in `place`."""
    if name in CHECKS:
        return OpFuzz(name, backend)
    (place / name).mkdir()
    others: dict[str, Callable[[Path], Family]] = {
        "splits": SplitFuzz,
        "kitti_results": KittiResultsFuzz,
        "checkpoints": CheckpointFuzz,
        "darknet_files": DarknetFuzz,
        "command_line": CommandLineFuzz,
    }
    return (others.get(name) or partial(ReaderFuzz, name))(place / name)


def run_case(name: str, family: Family, seed: int, number: int) -> None:
    """Run the case with this number."""
    family.case(random.Random(f"{seed}.{name}.{number}"))


def use_backend(name: str) -> Backend:
    """Set the backend of the ops: cpu-<isa>, simt or cuda.

    Raises:
        ValueError: this machine or build has no such backend.
    """
    if name == "simt":
        if SIMT is None:
            raise ValueError("the simulator is not built: make native-tests")
        _route._C = SIMT
    elif name.startswith("cpu-"):
        _C.set_isa(name.removeprefix("cpu-"))
        if _C.isa() != name.removeprefix("cpu-"):
            raise ValueError(f"no {name} here: this is cpu-{_C.isa()}")
    elif name != "cuda":
        raise ValueError(f"--backend must be cpu-<isa>, simt or cuda, got {name!r}")
    return Backend(name, "cuda" if name == "cuda" else "cpu")
