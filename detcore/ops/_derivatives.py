"""What torch can ask for beyond a call: derivatives of any order and mode, and batches (vmap).

The first derivative of an operator, in reverse mode, is its backward kernel. What differentiates
that again, or in forward mode, goes through the op's formula: the same function in plain PyTorch,
from `detcore.reference`. It is right in any order, and as fast as plain PyTorch.

torch.func wants an autograd.Function that it can take apart, which `torch.library` does not make.
So each operator has one of its own, of the same two functions, for calls under its transforms.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch._C._functorch import get_interpreter_stack
from torch.autograd import Function, forward_ad
from torch.compiler import is_compiling

Formula = Callable[..., Any]
Setup = Callable[[Any, tuple[Any, ...], Any], None]
Backward = Callable[..., Any]

_formulas: dict[str, Formula] = {}
_functions: dict[str, type[Function]] = {}
_indices: set[str] = set()


def _transforms() -> tuple[str, ...]:
    """The torch.func transforms around a call, outermost first: "Grad", "Jvp", "Vmap"."""
    return tuple(level.key().name for level in get_interpreter_stack() or ())


# what torch.compiler.assume_constant_result does, which would import all of torch's compiler;
# compiled code is guarded by the transforms around it anyway
_transforms._dynamo_marked_constant = True  # type: ignore[attr-defined]


def transformed(op: str) -> Callable[..., Any] | None:
    """What takes the place of the operator `op` under torch.func's transforms, None outside."""
    kinds = _transforms()
    if not kinds:
        return None
    # torch.compile makes one kernel of a formula itself
    if op in _formulas and ("Jvp" in kinds or is_compiling()):
        return _formulas[op]
    if "Jvp" not in kinds and "Grad" not in kinds:
        return None
    if is_compiling() and op in _indices:
        return functools.partial(_of_constants, op)
    if is_compiling() or op not in _functions:
        raise NotImplementedError(f"{op}: derivatives by torch.func are not supported here")
    return _functions[op].apply


def _of_constants(op: str, *args: Any) -> Any:
    constants = (a.detach() if isinstance(a, Tensor) else a for a in args)
    return getattr(torch.ops.detcore, op).default(*constants)


def forward_mode(op: str, args: Sequence[Any]) -> Callable[..., Any] | None:
    """What takes the place of the operator `op` where an argument is a dual number, else None.

    The operator itself has no forward mode: torch would drop the tangent without a word.
    """
    if forward_ad._current_level < 0 or op in _indices:
        return None
    flat = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else (arg,))]
    if any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None for a in flat):
        return _formulas.get(op) or _refuse_forward_mode(op)
    return None


def _refuse_forward_mode(op: str) -> NoReturn:
    raise NotImplementedError(f"{op}: forward-mode differentiation is not supported")


def differentiable(
    op: str, setup: Setup, backward: Backward, formula: Formula | None = None
) -> None:
    """Give the operator `op` a derivative.

    Args:
        setup, backward: as for torch.library.register_autograd.
        formula: the same function of the same arguments in plain PyTorch, for forward mode; None:
            that is refused with an error.
    """
    operator = getattr(torch.ops.detcore, op).default
    torch.library.register_autograd(f"detcore::{op}", backward, setup_context=setup)
    if formula is not None:
        _formulas[op] = formula
    values = (*operator._schema.arguments, *operator._schema.returns)
    if any(str(value.type) == "List[Tensor]" for value in values):
        return  # an autograd.Function does not look into lists

    def jvp(ctx: Any, *tangents: Tensor | None) -> Any:
        return None if op in _indices else _refuse_forward_mode(op)

    parts: dict[str, Callable[..., Any]] = {
        "forward": lambda *args: operator(*args),
        "setup_context": setup,
        "backward": backward,
        "jvp": jvp,
    }
    static: dict[str, Any] = {name: staticmethod(part) for name, part in parts.items()}
    _functions[op] = type(op, (Function,), {**static, "generate_vmap_rule": True})


def differentiable_again(op: str, formula: Formula, tensors: int) -> None:
    """Give the operator `<op>_backward`, of (grad, *arguments), a derivative of any order.

    Args:
        formula: the forward function of these arguments in plain PyTorch.
        tensors: how many of the arguments, the first ones, are tensors with a gradient.
    """

    def gradients(grad: Tensor, *args: Any) -> Any:
        rest = args[tensors:]
        pull = torch.func.vjp(lambda *leading: formula(*leading, *rest), *args[:tensors])[1]
        found = pull(grad)
        return found if tensors > 1 else found[0]

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*(a if isinstance(a, Tensor) else None for a in inputs))
        ctx.others = [None if isinstance(a, Tensor) else a for a in inputs]

    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        saved = zip(ctx.saved_tensors, ctx.others, strict=True)
        args = [other if tensor is None else tensor for tensor, other in saved]
        leading, rest = args[: tensors + 1], args[tensors + 1 :]
        pull = torch.func.vjp(lambda *tensors: gradients(*tensors, *rest), *leading)[1]
        return (*pull(grads if tensors > 1 else grads[0]), *[None] * len(rest))

    differentiable(f"{op}_backward", setup, backward, gradients)


def not_differentiable(op: str, instead: str, indices: bool = False) -> None:
    """Make a derivative through the operator `op`, which has none, an error instead of a warning.

    Args:
        instead: what to do where a gradient is wanted, as a clause.
        indices: results are indices alone, so that forward mode has nothing to refuse.
    """

    def no_setup(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    def refuse(ctx: Any, *grads: Tensor) -> NoReturn:
        raise RuntimeError(f"{op}: it has no gradient; {instead}")

    if indices:
        _indices.add(op)
    differentiable(op, no_setup, refuse)


# --- batches --------------------------------------------------------------------------------------
def _to_front(size: int, dims: tuple[int | None, ...], args: tuple[Tensor, ...]) -> list[Tensor]:
    """The tensors with their batch of `size` as leading dimension; expanded if they have none."""
    return [
        tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        for dim, tensor in zip(dims, args, strict=True)
    ]


def batched_by_leading_dims(op: str, tensors: int) -> None:
    """Let torch.vmap of an operator whose first `tensors` arguments take any leading dimensions
    call it once."""
    operator = getattr(torch.ops.detcore, op).default

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        fronted = _to_front(info.batch_size, in_dims[:tensors], args[:tensors])
        out = operator(*fronted, *args[tensors:])
        return out, 0 if isinstance(out, Tensor) else (0,) * len(out)

    torch.library.register_vmap(f"detcore::{op}", rule)


def batched_by_rows(op: str, tensors: int) -> None:
    """Let torch.vmap of an operator whose first `tensors` arguments and whose results have
    independent rows call it once, on the rows of all."""
    operator = getattr(torch.ops.detcore, op).default

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        if any(isinstance(dim, int) for dim in in_dims[tensors:]):
            names = ", ".join(a.name for a in operator._schema.arguments[:tensors])
            raise NotImplementedError(f"{op}: vmap takes batches of {names} alone")
        fronted = _to_front(info.batch_size, in_dims[:tensors], args[:tensors])
        out = operator(*(tensor.flatten(0, 1) for tensor in fronted), *args[tensors:])
        several = not isinstance(out, Tensor)
        apart = [
            o.unflatten(0, (info.batch_size, fronted[0].shape[1]))
            for o in (out if several else [out])
        ]
        return (tuple(apart), (0,) * len(apart)) if several else (apart[0], 0)

    torch.library.register_vmap(f"detcore::{op}", rule)
