"""Checks of arguments that several commands and functions take."""

from __future__ import annotations

import torch

from detcore.utils.errors import UsageError


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise UsageError unless `value` is allowed."""
    if value not in allowed:
        raise UsageError(f"{option} must be one of {', '.join(allowed)}, got {value!r}")


def checked_device(name: str) -> str:
    """`name`, if it is auto, cpu or a CUDA device and torch has one; else UsageError."""
    one_of("--device", name.split(":")[0], ("auto", "cpu", "cuda"))
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here")
    return name
