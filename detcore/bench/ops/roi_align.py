from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor

from detcore import ops

from .. import inputs, rivals
from ..case import Case, Contender, Function, Must, call, tensors_once
from .box_iou import close

SETTINGS = (7, 0.25, 2)  # output size, scale of a map at stride 4, sampling ratio


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    for layout, must in (("NCHW", Must("times", 8, 20)), ("channels-last", Must("times", 15, 28))):
        others = {"torchvision": call(torchvision.ops.roi_align, *SETTINGS)}
        if layout == "NCHW":  # the one layout that these take
            others["OpenVINO"] = rivals.openvino_roi_align(*SETTINGS)
            others["ONNX Runtime"] = rivals.onnxruntime_roi_align(*SETTINGS)
        yield Case(
            "roi_align",
            f"roi_align 1,000 RoIs, {layout}",
            _in_order if layout == "NCHW" else _channels_last,
            call(ops.roi_align, *SETTINGS),
            others,
            close,
            limit=Contender(full_pooled),
            must=must,
            new_pages=True,
        )
    yield Case(
        "roi_align",
        "roi_align backward, 1,000 RoIs, NCHW",
        _in_order,
        backward_of(ops.roi_align, *SETTINGS),
        {"torchvision": backward_of(torchvision.ops.roi_align, *SETTINGS)},
        close,
        limit=Contender(lambda input, rois: partial(torch.full_like, input, 1.0)),
        moved=_backward_moves,
        must=Must("times", 8, 20),
        new_pages=True,
    )
    yield Case(
        "roi_align",
        "roi_align 10 RoIs of a small map",
        small_map,
        call(ops.roi_align, *SETTINGS),
        {"torchvision": call(torchvision.ops.roi_align, *SETTINGS)},
        close,
        must=Must("times", 1, 2),
    )


def _in_order() -> tuple[Tensor, Tensor]:
    return inputs.pyramid()


def _channels_last() -> tuple[Tensor, Tensor]:
    input, rois = inputs.pyramid()
    return input.to(memory_format=torch.channels_last), rois


def small_map() -> tuple[Tensor, Tensor]:
    """A map [2, 4, 50, 68] and RoIs [10, 5]."""
    input, rois = inputs.pyramid(10)
    return input[:, :4, :50, :68].contiguous(), rois


def full_pooled(input: Tensor, rois: Tensor) -> Function:
    """The limit of pooling to 7 x 7: writing a result of that size."""
    return partial(torch.full, (len(rois), input.shape[1], 7, 7), 1.0, device=input.device)


def _backward_moves(inputs: tuple[Any, ...], gradient: Any) -> int:
    """The pooled gradient and the RoIs in, the map's gradient out; the map itself is not read."""
    input, rois = inputs
    pooled = len(rois) * input.shape[1] * 7 * 7 * input.element_size()
    return pooled + tensors_once((rois,), gradient)


def backward_of(pool: Callable[..., Tensor], *settings: Any) -> Contender:
    """The gradient of the map alone; the forward is not timed."""

    def prepare(input: Tensor, rois: Tensor) -> Function:
        leaf = input.detach().clone().requires_grad_()
        pooled = pool(leaf, rois, *settings)
        g = torch.Generator().manual_seed(10)
        grad = torch.randn(pooled.shape, generator=g).to(input.device)
        return lambda: torch.autograd.grad(pooled, leaf, grad, retain_graph=True)[0]

    return Contender(prepare)
