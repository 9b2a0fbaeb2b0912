"""Number formats of a training run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def fast_precision(device: str) -> str:
    """ "bf16" where the device computes in it natively, else "no".

    Elsewhere bfloat16 is emulated and slower than float32. device: "auto", "cpu" or "cuda...".
    """
    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    # no public name for it yet; without it the safe answer
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", bool)
    return "bf16" if native() else "no"


@contextmanager
def own_forward(model: nn.Module) -> Iterator[None]:
    """The model without accelerate's mixed precision: what is measured is what is saved."""
    wrapped = model.__dict__.pop("forward", None)
    try:
        yield
    finally:
        if wrapped is not None:
            model.forward = wrapped
