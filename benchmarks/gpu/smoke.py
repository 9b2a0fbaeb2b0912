"""Compares every op and its gradient on the GPU with the CPU kernel's result."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from benchmarks.gpu.rows import Row, Rows
from detcore import ops
from detcore.ops._native import _C
from detcore.ops.registry import CALLS

_SIZE = 60  # number of boxes or other items
# relative and absolute: the same arithmetic may run in another order
TOLERANCES = {
    torch.float32: 1e-5,
    torch.float64: 1e-10,
    torch.float16: 2e-3,
    torch.bfloat16: 2e-2,
}


def main(rows: Rows, dry: bool) -> None:
    """Without a GPU, compare the widest CPU kernels with the narrowest."""
    rows.each(items("cpu" if dry else "cuda"))


def items(device: str) -> Iterator[tuple[str, Callable[[], Row]]]:
    """All ops in float32, then all gradients, then the other dtypes."""
    for name in CALLS:
        yield f"{name} float32", partial(_forward, name, device, torch.float32)
    for name, call in CALLS.items():
        if call.gradients:
            yield f"{name} gradient", partial(_gradient, name, device)
    for dtype in list(TOLERANCES)[1:]:
        for name in CALLS:
            yield f"{name} {str(dtype)[6:]}", partial(_forward, name, device, dtype)


def _forward(name: str, device: str, dtype: torch.dtype) -> Row:
    call = CALLS[name]
    given = [t.to(dtype) if t.is_floating_point() else t for t in call.samples(0, _SIZE)]
    if call.operator.endswith("_out") and dtype != torch.float64:
        given[-1] = given[-1].float()  # the IoU of half types is float32
    return _compared(partial(call.run, ops), given, device, dtype)


def _gradient(name: str, device: str) -> Row:
    call = CALLS[name]

    def gradient(*tensors: Tensor) -> tuple[Tensor, ...]:
        given = [t.detach() for t in tensors]
        leaves = [given[k].requires_grad_() for k in call.gradients]
        out = next(iter(tree_leaves(call.run(ops, *given))))
        ramp = torch.linspace(0, 1, out.numel(), device=out.device).view(out.shape)
        return torch.autograd.grad(out, leaves, ramp)

    return _compared(gradient, call.samples(0, _SIZE), device, torch.float32)


def _compared(
    function: Callable[..., Any], given: list[Tensor], device: str, dtype: torch.dtype
) -> Row:
    got = [_fetched(t) for t in tree_leaves(function(*(t.to(device) for t in given)))]
    widest = _C.isa()
    if device == "cpu":
        _C.set_isa("baseline")
    try:
        want = [_fetched(t) for t in tree_leaves(function(*(t.clone() for t in given)))]
    finally:
        _C.set_isa(widest)
    if len(got) != len(want):
        raise AssertionError(f"{len(got)} results, the CPU kernel's are {len(want)}")
    return {"largest_difference": max(map(_difference, got, want, [TOLERANCES[dtype]] * len(got)))}


def _fetched(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _difference(got: Any, want: Any, tolerance: float) -> float:
    """The largest difference. Raises if it exceeds the tolerance, or for any non-float."""
    if not isinstance(want, Tensor):
        if got != want:
            raise AssertionError(f"{got}, the CPU kernel's is {want}")
        return 0.0
    if got.shape != want.shape or got.dtype != want.dtype:
        raise AssertionError(
            f"{got.dtype} {list(got.shape)}, the CPU kernel's is {want.dtype} {list(want.shape)}"
        )
    if not want.is_floating_point():
        wrong = int((got != want).sum())
        if wrong:
            raise AssertionError(f"{wrong} of {want.numel()} values differ from the CPU kernel's")
        return 0.0
    off = (got.double() - want.double()).abs()
    wrong = ~(off <= tolerance * (1 + want.double().abs()))
    largest = float(off.nan_to_num(torch.inf).max()) if off.numel() else 0.0
    if wrong.any():
        raise AssertionError(
            f"{int(wrong.sum())} of {want.numel()} values differ from the CPU kernel's, "
            f"by up to {largest:.3g}"
        )
    return largest
