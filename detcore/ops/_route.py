"""Which way a call takes: the pybind11 entry, or the operator torch.ops.detcore.<op>.

The entry is some microseconds faster, but sees nothing of what torch wraps around a call. So plain
tensors in plain eager mode take it, and everything else takes the operator: torch.compile and
torch.export, autograd, torch.func, subclasses, fake and meta tensors, dispatch and function modes,
tracing, lazy negation. Both end in the same C++ function. Forward mode and higher derivatives
take what `_derivatives` has for them.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_compiling
from torch.fx import Proxy

from ._derivatives import forward_mode, transformed
from ._native import _C
from ._torchscript import script_as, script_as_operator

P = ParamSpec("P")
R = TypeVar("R")

# thread-local dispatch keys: functorch levels, dispatch modes and tracing all show here
_local_keys = torch._C._dispatch_tls_local_include_set


def _plain_keys() -> tuple[int, int]:
    outside = _local_keys().raw_repr()
    with torch.inference_mode():
        return outside, _local_keys().raw_repr()


# asked in a new thread, which no mode has touched: this file may be imported under one
with ThreadPoolExecutor(1) as _pool:
    _C.set_plain_keys(*_pool.submit(_plain_keys).result())
# whether torch itself has nothing to do with these arguments: see csrc/bindings/plain.cpp
_plain = _C.plain
_was_refused = _C.was_refused
# whether the extension's entries can take tensors under this torch; the operators always can
_ENTRIES = bool(_C.handover())


def bind(op: str) -> Callable[..., Any]:
    """The function `op` of the extension, reached by the way that fits each call."""
    operator = getattr(torch.ops.detcore, op).default

    def call(*args: Any) -> Any:
        if is_compiling():
            return (transformed(op) or forward_mode(op, args) or operator)(*args)
        if _ENTRIES and _plain(args):
            try:
                return getattr(_C, op)(*args)
            except TypeError:
                _name_wrong_type(operator, args)
                if not any(map(_unreadable, args)):
                    raise
        way = transformed(op) or forward_mode(op, args) or operator
        try:
            return way(*args)
        except RuntimeError as error:
            # torch 2.15's dispatcher makes one of every C++ exception that is not torch's own
            if _was_refused(str(error)):
                raise ValueError(str(error)) from None
            raise

    script_as_operator(call, op)
    return call


def _name_wrong_type(operator: Any, args: tuple[Any, ...]) -> None:
    """Raises an error that names the argument the extension could not take."""
    for argument, value in zip(operator._schema.arguments, args, strict=False):
        wanted = str(argument.type)
        op = operator._schema.name.removeprefix("detcore::")
        if wanted == "Tensor" and not isinstance(value, Tensor):
            got = type(value).__name__
            raise TypeError(f"{op}: {argument.name} must be a tensor, got {got}") from None
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"{op}: {argument.name} must fit into 64 bits, got {value}") from None
        if wanted == "List[Tensor]":
            for i, item in enumerate(value):
                if not isinstance(item, Tensor):
                    got = type(item).__name__
                    name = f"{argument.name}[{i}]"
                    raise TypeError(f"{op}: {name} must be a tensor, got {got}") from None


def _unreadable(arg: Any) -> bool:
    """Whether it is, or lists, a tensor that kernels can't read: torch's dispatcher must decide."""
    if isinstance(arg, (list, tuple)):
        return any(map(_unreadable, arg))
    return isinstance(arg, Tensor) and (
        not (arg.is_cpu or arg.is_cuda)
        or arg.layout is not torch.strided
        or arg.is_nested
        or arg._is_zerotensor()
    )


def named_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Lets a function of tensors say which argument is none, and costs nothing where all are."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            _name_argument(function, args, kwargs, error)
            raise

    script_as(wrapper, function)
    return wrapper


def _name_argument(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    error: BaseException,
) -> None:
    """Raises what is wrong with an argument that is annotated as a tensor, if that is wrong."""
    op, signature = function.__name__, inspect.signature(function)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError:
        return
    for name, value in given.items():
        if isinstance(value, Tensor) and value.is_nested:
            raise TypeError(f"{op}: {name} must be a plain tensor, got a nested one") from error
        if isinstance(value, Tensor) and value.is_quantized:
            raise ValueError(
                f"{op}: {name} must not be quantized; pass {name}.dequantize()"
            ) from error
        wanted = signature.parameters[name].annotation
        optional = wanted == Tensor | None
        if isinstance(value, Tensor) or not (wanted is Tensor or (optional and value is not None)):
            continue
        what = "a tensor or None" if optional else "a tensor"
        raise TypeError(f"{op}: {name} must be {what}, got {type(value).__name__}") from error


def numpy_too(function: Callable[P, R]) -> Callable[P, R]:
    """Lets a function of tensors take numpy arrays: if the first is or lists one, arrays return."""

    leading = next(iter(inspect.signature(function).parameters))
    function = named_errors(function)

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0] if args else kwargs.get(leading)
        if type(first) is Tensor:
            return function(*args, **kwargs)
        kind = first[0] if isinstance(first, (list, tuple)) and first else first
        if isinstance(kind, Tensor) or (isinstance(kind, (list, tuple)) and not kind):
            return function(*args, **kwargs)
        if isinstance(kind, Proxy):  # torch.fx traces: one call in its graph
            return kind.tracer.create_proxy("call_function", wrapper, args, kwargs)  # type: ignore[return-value]
        if not isinstance(kind, np.ndarray):
            raise TypeError(
                f"{function.__name__}: {leading} must be a tensor or an array, "
                f"got {type(first).__name__}"
            )
        named = {name: _to_tensor(a) for name, a in kwargs.items()}
        out = kwargs.get("out")
        if isinstance(out, np.ndarray):
            named["out"] = _to_view(function.__name__, out)
        result = function(*[_to_tensor(a) for a in args], **named)
        return out if isinstance(out, np.ndarray) else _to_array(result)  # type: ignore[return-value]

    return wrapper


def _to_tensor(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_to_tensor(v) for v in value]
    if isinstance(value, np.ndarray):
        # negative strides and foreign byte orders are numpy's alone; a read-only array is copied
        native = value.astype(value.dtype.newbyteorder("="), copy=not value.flags.writeable)
        return torch.from_numpy(np.ascontiguousarray(native) if _odd(native) else native)
    return value


def _to_view(op: str, out: np.ndarray) -> Tensor:
    # a copy would take the result and leave the caller's array as it was
    if not (out.flags.writeable and out.flags.c_contiguous and out.dtype.isnative):
        raise ValueError(
            f"{op}: out must be a writable, contiguous array in native byte order, "
            "got one that is not"
        )
    return torch.from_numpy(out)


def _odd(array: np.ndarray) -> bool:
    return any(stride < 0 or stride % array.itemsize for stride in array.strides)


def _to_array(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().numpy()
    if isinstance(value, tuple):
        arrays = [_to_array(v) for v in value]
        # a named tuple keeps its names
        return type(value)(*arrays) if hasattr(value, "_fields") else tuple(arrays)
    return value
