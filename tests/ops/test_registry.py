"""Tests of all entries of the registry, on every backend. A new op needs no changes here."""

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck
from torch.utils._pytree import tree_leaves

from detcore import ops, reference
from detcore.ops.registry import CALLS, KERNELS_OF, OPERATORS, STEMS

from .conftest import Backend

ROOT = Path(__file__).parents[2]
SIZES = (0, 1, 2, 7, 31, 63, 64, 65, 97)
TOLERANCE = {
    torch.float32: 2e-5,
    torch.float64: 1e-10,
    torch.float16: 5e-3,
    torch.bfloat16: 3e-2,
}


def leaves(result: Any) -> list[Tensor]:
    return [t for t in tree_leaves(result) if isinstance(t, Tensor)]


def assert_close(got: Any, want: Any, dtype: torch.dtype) -> None:
    got, want = leaves(got), leaves(want)
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(
            ours.cpu(), theirs, rtol=TOLERANCE[dtype], atol=10 * TOLERANCE[dtype],
            equal_nan=True, check_stride=False,
        )  # fmt: skip


def means(name: str) -> Any:
    """The same call with the reference functions."""
    call = CALLS[name]
    return lambda *tensors: (call.reference or call.run)(reference, *tensors)


def given(name: str, dtype: torch.dtype, n: int) -> list[Tensor]:
    """The tensors of a call, floats in that dtype; output tensors have the result's dtype."""
    tensors = CALLS[name].samples(n, n)
    cast = [t.to(dtype) if t.is_floating_point() else t for t in tensors]
    if CALLS[name].operator.endswith("_out"):
        cast[-1] = cast[-1].to(torch.promote_types(dtype, torch.float32))
    return cast


@cache
def wanted(name: str, dtype: torch.dtype, n: int) -> Any:
    """The reference's results, which are the same for every backend and slow for ROI-align."""
    return means(name)(*given(name, dtype, n))


def test_every_operator_is_in_the_table() -> None:
    registered = torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
    ours = {name.removeprefix("detcore::") for name in registered if name.startswith("detcore::")}
    assert ours == set(OPERATORS)
    backward = {name for name in OPERATORS if name.endswith("_backward")}
    assert backward == {name for name, op in OPERATORS.items() if op.elsewhere}
    assert {call.operator for call in CALLS.values()} == set(OPERATORS) - backward
    differentiable = {call.operator for call in CALLS.values() if call.gradients}
    assert backward == {f"{name}_backward" for name in differentiable}


def layers(stem: str) -> tuple[str, ...]:
    return (
        *(f"csrc/kernels/include/detcore/{stem}.h", f"csrc/kernels/cpu/{stem}.cpp"),
        *(f"csrc/kernels/cuda/{stem}.cu", f"csrc/bindings/{stem}.cpp"),
        *(f"detcore/ops/{stem}.py", f"detcore/reference/{stem}.py", f"tests/ops/test_{stem}.py"),
        *(f"detcore/bench/ops/{stem}.py", f"benchmarks/ops/bench_{stem}.py"),
    )


@pytest.mark.parametrize("stem", STEMS)
def test_nothing_of_the_skeleton_is_left(stem: str) -> None:
    names = (stem, "".join(part.capitalize() for part in stem.split("_")) + "Params")
    shared = ("detcore/ops/registry.py", "tests/cpp/test_launchers.cpp")
    left = [
        f"{path}:{number}: {line.strip()}"
        for path in (*layers(stem), *shared)
        if (ROOT / path).is_file()
        for number, line in enumerate((ROOT / path).read_text(encoding="utf-8").splitlines(), 1)
        if "TODO" in line and (path not in shared or any(name in line for name in names))
    ]
    assert not left, "scripts/new_op.py left this to be written:\n" + "\n".join(left)


@pytest.mark.parametrize("stem", STEMS)
def test_a_stem_has_its_file_in_every_layer(stem: str) -> None:
    for path in layers(stem):
        shared = stem in KERNELS_OF and path.startswith("csrc/kernels")
        assert shared or (ROOT / path).is_file(), path
    assert callable(importlib.import_module(f"detcore.bench.ops.{stem}").cases)


def test_every_launcher_is_called_from_plain_cpp() -> None:
    """tests/cpp/test_launchers.cpp calls the kernel library like a program without torch."""
    called = (ROOT / "tests/cpp/test_launchers.cpp").read_text(encoding="utf-8")
    for header in (ROOT / "csrc/kernels/include/detcore").glob("*.h"):
        for line in header.read_text(encoding="utf-8").splitlines():
            if line.startswith("Status ") and "_cuda(" in line:
                launcher = line.removeprefix("Status ").partition("(")[0]
                assert launcher in called, f"{launcher} of {header.name}"


@pytest.mark.parametrize("name", sorted(ops.__all__))
def test_every_public_op_is_in_the_readme_and_the_reference(name: str) -> None:
    """README may say "box and focal losses" for what needs no line of its own."""
    pages = (ROOT / "docs/reference/ops").glob("*.md")
    reference = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert re.search(rf"^\.\. auto(function|class):: {name}$", reference, re.MULTILINE)
    if name in {call.operator for call in CALLS.values()}:
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        assert f"`{name}`" in text, f"README's table of ops has no `{name}`"


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name, call in CALLS.items() for dtype in call.dtypes],
    ids=str,
)  # fmt: skip
def test_equals_reference(backend: Backend, name: str, dtype: torch.dtype) -> None:
    for n in SIZES[:: 3 if backend.simulated else 1]:
        tensors = given(name, dtype, n)
        found = CALLS[name].run(ops, *(backend(t) for t in tensors))
        assert_close(found, wanted(name, dtype, n), dtype)


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call.gradients])
def test_gradients_are_the_references(backend: Backend, name: str) -> None:
    call = CALLS[name]
    for n in (1, 33):
        found = []
        for function, place in (
            (lambda *t: call.run(ops, *t), backend),
            (means(name), lambda t: t),
        ):
            tensors = [place(t) for t in given(name, torch.float64, n)]
            inputs = [tensors[k].requires_grad_() for k in call.gradients]
            outs = [out for out in leaves(function(*tensors)) if out.requires_grad]
            ramps = [
                torch.linspace(0, 1 + k, out.numel(), dtype=torch.float64).view(out.shape)
                for k, out in enumerate(outs)
            ]
            ramps = [ramp.to(out.device) for ramp, out in zip(ramps, outs, strict=True)]
            found.append(torch.autograd.grad(outs, inputs, ramps, materialize_grads=True))
        assert_close(*found, torch.float64)


@pytest.mark.parametrize("name", [n for n, c in CALLS.items() if not c.gradients])
def test_what_has_no_gradient_says_so(name: str) -> None:
    tensors = given(name, torch.float32, 20)
    if CALLS[name].operator.endswith("_out"):
        with pytest.raises(ValueError, match="out must not be given where gradients"):
            CALLS[name].run(ops, tensors[0].requires_grad_(), *tensors[1:])
        return
    learning = [t.requires_grad_() if t.is_floating_point() else t for t in tensors]
    results = leaves(CALLS[name].run(ops, *learning))
    assert any(r.requires_grad for r in results) == any(r.is_floating_point() for r in results)
    for result in results:
        if result.requires_grad:
            words = f"^{CALLS[name].operator}: it has no gradient; "
            with pytest.raises(RuntimeError, match=words):
                result.sum().backward()


@pytest.mark.parametrize("name", [name for name, op in OPERATORS.items() if op.elsewhere])
def test_a_gradient_of_another_dtype_is_converted(backend: Backend, name: str) -> None:
    """A double one is not read as twice as many floats."""
    grad, *others = (backend(argument) for argument in OPERATORS[name].arguments())
    function = backend.native(name)
    wide, narrow = (leaves(function(g, *others)) for g in (grad.double(), grad))
    for got, want in zip(wide, narrow, strict=True):
        torch.testing.assert_close(got.double(), want.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operator", OPERATORS)
def test_opcheck(operator: str) -> None:
    """The schema marks written arguments, and the fake kernel describes the result."""
    arguments = tuple(OPERATORS[operator].arguments())
    checks = ("test_schema", "test_faketensor")
    opcheck(getattr(torch.ops.detcore, operator).default, arguments, test_utils=checks)
