from collections.abc import Callable, Iterator
from functools import partial

import torch
import torchvision
from torch import Tensor

from detcore import ops

from .. import inputs
from ..case import Case, Contender, Function, Must, call, tensors_once

SETTINGS = (7, 1 / 16)  # output size, scale of a map at stride 16


def cases() -> Iterator[Case]:
    """The benchmark cases of this stem: inputs, rivals, goals."""
    theirs = {"torchvision": call(torchvision.ops.roi_pool, *SETTINGS)}
    for layout in ("NCHW", "channels-last"):
        yield Case(
            "roi_pool",
            f"roi_pool 512 RoIs, {layout}",
            partial(_regions, layout == "channels-last"),
            call(ops.roi_pool, *SETTINGS),
            theirs,
            _equal,
            limit=Contender(_full_pooled),
            must=Must("times", 3, 6),
            new_pages=True,
        )
    yield Case(
        "roi_pool",
        "roi_pool backward, 512 RoIs, NCHW",
        partial(_regions, False),
        _backward(ops.roi_pool),
        {"torchvision": _backward(torchvision.ops.roi_pool)},
        _close,
        limit=Contender(lambda input, rois: partial(torch.full_like, input, 1.0)),
        moved=_backward_moves,
        must=Must("times", 2, 3),
        new_pages=True,
    )
    yield Case(
        "roi_pool",
        "roi_pool 10 RoIs of a small map",
        _small,
        call(ops.roi_pool, *SETTINGS),
        theirs,
        _equal,
        must=Must("times", 1, 2),
    )


def _regions(channels_last: bool) -> tuple[Tensor, Tensor]:
    """A map [2, 256, 50, 68] of two 800 x 1,088 pictures at stride 16, and RoIs [512, 5]."""
    input, rois = inputs.pyramid(512)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return input[:, :, :50, :68].contiguous(memory_format=layout), rois


def _small() -> tuple[Tensor, Tensor]:
    input, rois = inputs.pyramid(10)
    return input[:, :4, :50, :68].contiguous(), rois


def _equal(ours: Tensor, theirs: Tensor, *_: Tensor) -> bool:
    return torch.equal(ours, theirs)


def _close(ours: Tensor, theirs: Tensor, *_: Tensor) -> bool:
    return torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)  # sums in another order


def _full_pooled(input: Tensor, rois: Tensor) -> Function:
    return partial(torch.full, (len(rois), input.shape[1], 7, 7), 1.0, device=input.device)


def _backward_moves(inputs: tuple[Tensor, Tensor], gradient: Tensor) -> int:
    """The pooled gradient and places, and the RoIs in, the map's gradient out."""
    input, rois = inputs
    pooled = len(rois) * input.shape[1] * 7 * 7 * (input.element_size() + 4)
    return pooled + tensors_once((rois,), gradient)


def _backward(pool: Callable[..., Tensor]) -> Contender:
    def prepare(input: Tensor, rois: Tensor) -> Function:
        leaf = input.detach().clone().requires_grad_()
        pooled = pool(leaf, rois, *SETTINGS)
        g = torch.Generator().manual_seed(10)
        grad = torch.randn(pooled.shape, generator=g).to(input.device)
        return lambda: torch.autograd.grad(pooled, leaf, grad, retain_graph=True)[0]

    return Contender(prepare)
