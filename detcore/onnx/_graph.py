"""One way to write ONNX operators for both of torch's exporters.

A translation takes a `Graph` first and then the operator's arguments: tensors are values of the
graph, everything else is a Python value. ``g.Add(a, b)`` adds a node; an input may be a Python
number or a list of numbers, which becomes a constant; attributes are keyword arguments.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.onnx import symbolic_helper

Value = Any  # a tensor in the graph of either exporter
Translation = Callable[..., Any]
OPSET = 18


class Graph:
    """Adds nodes by attribute: ``g.Concat(a, b, axis=0)``."""

    def __getattr__(self, name: str) -> Callable[..., Value]:
        return functools.partial(self.node, name)

    def node(self, name: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Value:
        raise NotImplementedError

    def constant(self, tensor: torch.Tensor) -> Value:
        raise NotImplementedError

    def is_half(self, value: Value) -> bool:
        """Whether a tensor in the graph is float16 or bfloat16."""
        raise NotImplementedError

    def rank(self, value: Value) -> int:
        """The number of dimensions of a tensor in the graph."""
        raise NotImplementedError

    def input(self, value: Value) -> Value:
        """A value of the graph; Python numbers become float32 or int64."""
        if isinstance(value, (int, float, list)):
            return self.constant(torch.tensor(value))
        return value

    def size(self, value: Value, dim: int) -> Value:
        """[1]: the size of a dimension."""
        return self.Gather(self.Shape(value), [dim], axis=0)

    def arithmetic(self, value: Value) -> Value:
        """Half precision as float32, in which the kernels compute it; anything else as it is."""
        return self.float32(value) if self.is_half(value) else value

    def float32(self, value: Value) -> Value:
        return self.Cast(value, to=1)

    def int64(self, value: Value) -> Value:
        return self.Cast(value, to=7)


class ExporterGraph(Graph):
    """The graph of torch.onnx.export(dynamo=True): onnxscript records calls of its operators."""

    def __init__(self) -> None:
        import onnxscript

        self.operators = getattr(onnxscript, f"opset{OPSET}")

    def node(self, name: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Value:
        return getattr(self.operators, name)(*map(self.input, inputs), **attributes)

    def constant(self, tensor: torch.Tensor) -> Value:
        import onnx

        return self.operators.Constant(value=onnx.numpy_helper.from_array(tensor.numpy()))

    def is_half(self, value: Value) -> bool:
        return value.dtype.name in ("FLOAT16", "BFLOAT16")

    def rank(self, value: Value) -> int:
        return len(value.shape)


class SymbolicGraph(Graph):
    """The older exporter's graph, in which a suffix of its name marks an attribute's type."""

    def __init__(self, context: Any) -> None:
        self.context = context

    def node(self, name: str, *inputs: Value, outputs: int = 1, **attributes: Any) -> Value:
        typed = {f"{key}_{_suffix(value)}": value for key, value in attributes.items()}
        return self.context.op(name, *map(self.input, inputs), outputs=outputs, **typed)

    def constant(self, tensor: torch.Tensor) -> Value:
        return self.context.op("Constant", value_t=tensor)

    def is_half(self, value: Value) -> bool:
        return value.type().scalarType() in ("Half", "BFloat16")

    def rank(self, value: Value) -> int:
        return int(value.type().dim())


def _suffix(value: Any) -> str:
    first = value[0] if isinstance(value, list) else value
    return "s" if isinstance(first, str) else "f" if isinstance(first, float) else "i"


def for_exporter(translation: Translation) -> Callable[..., Any]:
    """The translation as an entry of the exporter's table."""

    def translated(*args: Any) -> Any:
        return translation(ExporterGraph(), *args)

    return translated


def register_symbolic(op: str, translation: Translation) -> None:
    """Give the older exporter the translation of ``detcore::<op>``."""
    schema = getattr(torch.ops.detcore, op).default._schema
    kinds = [_KINDS[str(argument.type)] for argument in schema.arguments]

    def symbolic(context: Any, *args: Any) -> Any:
        values = [
            symbolic_helper._unpack_list(arg)
            if kind == "values"
            else symbolic_helper._parse_arg(arg, kind)  # type: ignore[arg-type]
            for arg, kind in zip(args, kinds, strict=True)
        ]
        return translation(SymbolicGraph(context), *values)

    torch.onnx.register_custom_op_symbolic(f"detcore::{op}", symbolic, OPSET)


_KINDS = {
    "Tensor": "v", "List[Tensor]": "values", "float": "f", "int": "i", "bool": "b", "str": "s",
    "List[float]": "fs", "List[int]": "is",
}  # fmt: skip
