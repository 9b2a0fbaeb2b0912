"""How torch.jit.script takes the functions: their bodies, without what is around them.

torch calls TorchScript deprecated, but exported services use it, and torchvision's functions can be
scripted. So can ours of the same names: a bound operator is a builtin to the compiler, and a
decorated function is compiled as the function inside. These keep to what TorchScript knows, and
leave the rest under ``if not torch.jit.is_scripting()``, which it does not look into.
"""

from collections.abc import Callable
from typing import Any

from torch.jit._builtins import _register_builtin


def script_as_operator(call: Callable[..., Any], op: str) -> None:
    """Let scripted code that calls `call` call the operator `op`."""
    _register_builtin(call, f"detcore::{op}")


def script_as(wrapper: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Let torch.jit.script compile `function` in the place of `wrapper`."""
    # the marks of torch.jit.script_if_tracing, by which torch.compile looks inside as well
    wrapper.__dict__["__script_if_tracing_wrapper"] = True
    wrapper.__dict__["__original_fn"] = function
