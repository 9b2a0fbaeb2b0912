"""Convolutions with what follows them: norm folded into the weights, activation into the pass.

For inference alone. What is left of conv, norm, sum and activation is one pass over memory instead
of up to four.
"""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

log = logging.getLogger(__name__)

# of each activation, what oneDNN calls it and the numbers that it takes
_POST_OPS: dict[type[nn.Module], tuple[str, Callable[[Any], list[float]]]] = {
    nn.ReLU: ("relu", lambda a: []),
    nn.ReLU6: ("hardtanh", lambda a: [0.0, 6.0]),
    nn.LeakyReLU: ("leaky_relu", lambda a: [a.negative_slope]),
    nn.Hardswish: ("hardswish", lambda a: []),
    nn.Hardsigmoid: ("hardsigmoid", lambda a: []),
    nn.Sigmoid: ("sigmoid", lambda a: []),
    nn.SiLU: ("swish", lambda a: []),
}
_ADDITIONS = (operator.add, operator.iadd, torch.add)
_RELU_CALLS = (F.relu, torch.relu, "relu", "relu_")


class FusedConv2d(nn.Module):
    """A convolution, a batch norm, a sum and an activation, of which any but the first may lack.

    On the CPU it is one call of oneDNN with the weights laid out for it at the first call, for the
    size of map that came then (other sizes are right too). On a processor whose bfloat16 or float16
    oneDNN does not compute in, that call is made in float32, between maps of the half type: torch's
    own convolution of half types is many times slower there. Elsewhere, under torch.compile, for an
    input that wants a gradient and for activations that oneDNN does not know, it is the same
    arithmetic in torch's own functions.

    winograd: in float32, let NNPACK's Winograd convolution (Lavin & Gray, CVPR 2016) take the 3x3
    convolutions of large maps, where it needs a fifth of the multiplications. Its results are about
    thirty times less exact: 1e-5 of the largest one.

    forward(x, other): activation(norm(conv(x)) + other), without `other` no sum.
    """

    winograd = False
    activation: nn.Module | None
    kernel_size: list[int]
    settings: tuple[list[int], list[int], list[int], int]  # padding, stride, dilation, groups
    _packed: tuple[Tensor, Tensor | None] | None  # weights laid out for oneDNN, and the bias

    def __init__(
        self, conv: nn.Conv2d, norm: nn.Module | None = None, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), conv.bias
        if norm is not None:
            weight, bias = _folded(weight, bias, norm)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        self.activation = activation
        self.kernel_size = list(conv.kernel_size)
        sides: Any = (conv.padding, conv.stride, conv.dilation)
        padding, stride, dilation = (list(side) for side in sides)
        self.settings = (padding, stride, dilation, conv.groups)
        self.post_op: tuple[str, list[float]] = ("none", [])
        if activation is not None:
            name, scalars = _POST_OPS.get(type(activation), ("", lambda a: []))
            self.post_op = (name, scalars(activation))
        self._packed = None

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Convolution of [B, C, H, W], plus `other` of the result's shape, then the activation."""
        padding, stride, dilation, groups = self.settings
        if self.winograd and self._pays_as_winograd(x):
            return self._by_winograd(x, other)
        if not self._one_call(x) or (other is not None and not self._like_the_result(other, x)):
            y = F.conv2d(x, self.weight, self.bias, stride, padding, dilation, groups)
            y = y if other is None else y + other
            return y if self.activation is None else self.activation(y)
        dtype = x.dtype
        x = _for_onednn(x)
        if self._packed is None:
            weight, bias = self.weight.to(x.dtype), self.bias
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                weight, padding, stride, dilation, groups, list(x.shape)
            )
            self._packed = (packed, None if bias is None else bias.to(x.dtype))
        run: Any = torch.ops.mkldnn._convolution_pointwise
        common = (*self._packed, padding, stride, dilation, groups)
        name, scalars = self.post_op
        if other is None:
            return run(x, *common, name, scalars, "").to(dtype)
        unary = None if name == "none" else name
        y = run.binary(x, _for_onednn(other), *common, "add", 1.0, unary, scalars, "")
        return y.to(dtype)

    def _one_call(self, x: Tensor) -> bool:
        return (
            bool(self.post_op[0])
            and x.dtype == self.weight.dtype
            and x.dtype in (torch.float32, torch.bfloat16, torch.float16)
            and x.numel() > 0
            and _on_plain_cpu(x)
            and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        )

    def _pays_as_winograd(self, x: Tensor) -> bool:
        # measured: below these the weights' transform, made at every call, costs what is saved
        channels = min(self.weight.shape[:2])
        return (
            self.settings == ([1, 1], [1, 1], [1, 1], 1)
            and self.kernel_size == [3, 3]
            and channels >= 128
            and x.shape[2] * x.shape[3] >= 4096
            and x.dtype == self.weight.dtype == torch.float32
            and _on_plain_cpu(x)
            and _has_nnpack()
        )

    def _by_winograd(self, x: Tensor, other: Tensor | None) -> Tensor:
        # image by image: a batch goes another, slower way in there
        images = [
            torch._nnpack_spatial_convolution(image, self.weight, self.bias, 1, 1)
            for image in x.contiguous().split(1)
        ]
        y = images[0] if len(images) == 1 else torch.cat(images)
        y = y if other is None else y.add_(other)
        if type(self.activation) is nn.ReLU:
            return y.relu_()  # nobody else has seen it
        return y if self.activation is None else self.activation(y)

    def _like_the_result(self, other: Tensor, x: Tensor) -> bool:
        """Whether a sum with `other` broadcasts nothing, which oneDNN would not do."""
        padding, stride, dilation, _ = self.settings
        shape = [x.shape[0], self.weight.shape[0]]
        for i, side in enumerate(x.shape[2:]):
            seen = dilation[i] * (self.kernel_size[i] - 1) + 1
            shape.append((side + 2 * padding[i] - seen) // stride[i] + 1)
        return other.dtype == x.dtype and list(other.shape) == shape

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FusedConv2d:
        self._packed = None  # of the old dtype or device
        return super()._apply(fn, recurse)

    def extra_repr(self) -> str:
        """The weight's shape and the fused operation, for `print(module)`."""
        return f"{list(self.weight.shape)}, post_op={self.post_op[0] or None}"


def _for_onednn(x: Tensor) -> Tensor:
    """The map channels-last, in the dtype that oneDNN computes in on this processor."""
    return x.to(_arithmetic(x.dtype), memory_format=torch.channels_last)


@functools.cache
def _arithmetic(dtype: torch.dtype) -> torch.dtype:
    """The dtype itself if oneDNN packs weights of it here, otherwise float32, said once."""
    if dtype == torch.float32:
        return dtype
    name = {torch.bfloat16: "bf16", torch.float16: "fp16"}[dtype]
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", None)
    if supported is not None and supported():
        return dtype
    log.warning(
        "this processor has no %s convolutions: they are computed in float32, "
        "so a model in float32 is faster here",
        str(dtype).removeprefix("torch."),
    )
    return torch.float32


def _on_plain_cpu(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
    )


@functools.cache
def _has_nnpack() -> bool:
    # the question also makes NNPACK ready; without it its first call would fail
    return bool(getattr(torch, "_nnpack_available", lambda: False)())


def fuse(module: nn.Module) -> nn.Module:
    """The module with its convolutions fused, for inference; the given one may be changed.

    What torch.fx can trace is fused along its data flow, sums included; of what it can't, the
    children are fused one by one. The module must be in evaluation mode.
    """
    if _fusible(module):
        return FusedConv2d(module)  # type: ignore[arg-type]
    if not any(_fusible(m) for m in module.modules()):
        return module
    try:
        graph = _Tracer().trace(module)
    except Exception:  # a forward may do anything to a proxy that a proxy doesn't bear
        for name, child in module.named_children():
            setattr(module, name, fuse(child))
        return module
    traced = fx.GraphModule(module, graph)
    for node in list(graph.nodes):
        if _fusible(_module(traced, node)):
            _fuse_from(traced, node)
    graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


class _Tracer(fx.Tracer):
    """Looks into everything but torch's own modules and norms, which may be folded."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) or super().is_leaf_module(
            m, module_qualified_name
        )


def _fuse_from(traced: fx.GraphModule, conv: fx.Node) -> None:
    """Let one `FusedConv2d` do what a convolution and the nodes that read it alone do."""
    norm = activation = other = None
    tail, user = _passed_on(traced, conv)
    module: Any = _module(traced, user)
    if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d) and module.running_mean is not None:
        norm = module
        # timm's norms hold the activation that follows them
        activation = getattr(module, "act", None)
        activation = None if isinstance(activation, nn.Identity) else activation
        tail, user = _passed_on(traced, user)
    if activation is None:
        other = _other_summand(user, tail)
        if other is not None:
            tail, user = _passed_on(traced, user)
        activation = _activation(traced, user)
        # of sums, oneDNN knows those before a ReLU
        if activation is not None and (other is None or isinstance(activation, nn.ReLU)):
            tail = user
        else:
            activation = None
    fused = FusedConv2d(traced.get_submodule(str(conv.target)), norm, activation)  # type: ignore[arg-type]
    name = f"{conv.target}_fused_{conv.name}"
    traced.add_submodule(name, fused)
    with traced.graph.inserting_after(tail):
        inputs = (conv.args[0],) if other is None else (conv.args[0], other)
        node = traced.graph.call_module(name, inputs)
    tail.replace_all_uses_with(node)


def _folded(weight: Tensor, bias: Tensor | None, norm: Any) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        weight, bias = fuse_conv_bn_weights(
            weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
    return weight.detach(), bias.detach()


def _fusible(module: nn.Module | None) -> bool:
    # no subclass: timm's, say, pad by the size of the map
    return (
        type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _module(traced: fx.GraphModule, node: fx.Node | None) -> nn.Module | None:
    if node is None or node.op != "call_module":
        return None
    return traced.get_submodule(str(node.target))


def _passed_on(traced: fx.GraphModule, node: Any) -> tuple[Any, Any]:
    """Where a node's result has got to unchanged, and the one node, if it is one, that reads it."""
    while len(node.users) == 1:
        (user,) = node.users
        if not isinstance(_module(traced, user), nn.Identity | nn.Dropout | nn.Dropout2d):
            return node, user
        node = user
    return node, None


def _other_summand(node: fx.Node | None, tail: fx.Node) -> fx.Node | None:
    """What a node adds to `tail`, if it is a plain sum of it and another tensor."""
    if node is None or node.op != "call_function" or node.target not in _ADDITIONS or node.kwargs:
        return None
    first, *rest = node.args
    if len(rest) != 1 or not isinstance(rest[0], fx.Node) or rest[0] is first:
        return None
    if first is tail:
        return rest[0]
    # x += y writes into x, which others may read
    writes = node.target is operator.iadd
    return first if isinstance(first, fx.Node) and not writes else None


def _activation(traced: fx.GraphModule, node: fx.Node | None) -> nn.Module | None:
    module = _module(traced, node)
    if type(module) in _POST_OPS:
        return module
    if node is not None and node.op in ("call_function", "call_method"):
        return nn.ReLU() if node.target in _RELU_CALLS else None
    return None
