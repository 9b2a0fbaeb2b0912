"""A model made ready for inference: fewer passes over memory, the layout that is read fastest."""

import copy
from typing import TypeVar

import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from detcore.parts.conv_fusion import FusedConv2d, fuse
from detcore.parts.preprocess import Preprocess

M = TypeVar("M", bound=nn.Module)


def optimize(model: M, *, dtype: torch.dtype = torch.float32, winograd: bool = True) -> M:
    """Copy a model for inference: faster, with the same answers up to rounding.

    Batch norms are folded into the convolutions before them; sums and activations are computed in
    the convolution's own pass where oneDNN can (see `detcore.parts.conv_fusion`); maps are
    channels-last.

    Args:
        model: any of detcore's models, on any device. It is not changed.
        dtype: dtype of weights and maps, float32; or bfloat16 or float16 if the machine is fast in
            them. A processor without them computes the convolutions in float32 and says so once,
            as a warning of the logger "detcore"; float32 is the faster choice there. Boxes and
            scores are float32 in any case.
        winograd: on the CPU in float32, compute the large 3x3 convolutions with Winograd's
            algorithm if torch has NNPACK: faster, and exact to about 1e-5 of a map's largest value.

    Returns:
        The copy, in evaluation mode. Its weights have no gradients, and its state dict differs
        from the model's.

    Deterministic.
    """
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    for name, child in fast.named_children():
        setattr(fast, name, fuse(child))
    for module in list(fast.modules()):
        if isinstance(module, Preprocess):
            module.dtype = dtype
        elif isinstance(module, FusedConv2d):
            module.winograd = winograd
    _convert(fast, dtype)
    return fast


def _convert(module: nn.Module, dtype: torch.dtype) -> None:
    """Weights to `dtype`; anchors, means and deviations, which are pixels, stay as they are."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d | FrozenBatchNorm2d):
            part.to(dtype)  # its statistics are buffers
        for weight in part.parameters(recurse=False):
            weight.data = weight.data.to(dtype)
