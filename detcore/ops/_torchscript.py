"""Lets torch.jit.script compile the public functions.

torch calls TorchScript deprecated, but exported services use it, and torchvision's functions can be
scripted. So can ours of the same names: a bound operator is a builtin to the compiler, and a
decorated function is compiled as the function inside the decorator. The functions inside use only
what TorchScript knows; anything else stands under ``if not torch.jit.is_scripting()``, which the
compiler skips.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.jit._builtins import _register_builtin


def is_exporting() -> bool:
    """Whether torch.onnx.export is tracing; never in scripted code."""
    if not torch.jit.is_scripting():
        return torch.onnx.is_in_onnx_export()
    return False


def script_as_operator(call: Callable[..., Any], op: str) -> None:
    """Let scripted code that calls `call` call the operator `op`."""
    _register_builtin(call, f"detcore::{op}")


def script_as(wrapper: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Let torch.jit.script compile `function` in the place of `wrapper`."""
    # the marks of torch.jit.script_if_tracing, by which torch.compile looks inside as well
    wrapper.__dict__["__script_if_tracing_wrapper"] = True
    wrapper.__dict__["__original_fn"] = function
