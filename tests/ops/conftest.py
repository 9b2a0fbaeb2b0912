"""Every op test runs on each backend that this machine has.

`cpu-<isa>` are the CPU kernels of one instruction set. `simt` are the CUDA kernels in the
simulator, which also finds races, accesses out of bounds and reads of unwritten memory. `cuda` are
the CUDA kernels on a GPU.
"""

import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from detcore.ops import _route
from detcore.ops._native import _C
from detcore.ops.registry import FLOATS as FLOATS
from detcore.ops.samples import random_boxes as random_boxes  # most tests import it from here

ROOT = Path(__file__).parents[2]
ISAS = ("baseline", "avx2", "avx512")


def _usable_isas() -> list[str]:
    widest = ISAS.index(_C.isa())
    return [
        isa for isa in ISAS[: widest + 1] if isa in _C.build_facts()["instruction_sets"].split()
    ]


def _load_simt() -> ModuleType | None:
    # the module of this Python; those of others can't be loaded
    name = f"_C_simt{sysconfig.get_config_var('EXT_SUFFIX')}"
    for path in sorted(ROOT.glob(f"build/{sysconfig.get_platform()}/**/{name}")):
        loader = ExtensionFileLoader("_C_simt", str(path))
        spec = spec_from_loader("_C_simt", loader)
        assert spec is not None
        module = module_from_spec(spec)
        loader.exec_module(module)
        return module
    return None


SIMT = _load_simt()


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Count the operations of simulated kernels: transactions, bank conflicts, atomics."""
    assert SIMT is not None
    counts: dict[str, int] = {}
    SIMT.reset_counters()
    try:
        yield counts
    finally:
        SIMT.stop_counters()
        counts.update(SIMT.counters())


@dataclass
class Backend:
    name: str
    device: str = "cpu"

    @property
    def simulated(self) -> bool:
        return self.name == "simt"

    def native(self, op: str) -> Any:
        """A function of the extension on this backend, including backward ones."""
        return _route.bind(op)

    def __call__(self, value: Any) -> Any:
        """Move tensors, also in lists, to this backend's device."""
        if isinstance(value, Tensor):
            return value.to(self.device)
        return [self(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(
    params=[
        *(f"cpu-{isa}" for isa in _usable_isas()),
        pytest.param(
            "simt",
            marks=[
                pytest.mark.simt,
                pytest.mark.skipif(SIMT is None, reason="the simulator is not built: make test"),
            ],
        ),
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.cuda,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
            ],
        ),
    ]
)
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    name = request.param
    widest = _C.isa()
    if name.startswith("cpu-"):
        _C.set_isa(name.removeprefix("cpu-"))
        assert _C.isa() == name.removeprefix("cpu-")
    elif name == "simt":
        monkeypatch.setattr(_route, "_C", SIMT)
    yield Backend(name, "cuda" if name == "cuda" else "cpu")
    _C.set_isa(widest)
