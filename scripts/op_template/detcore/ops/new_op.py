"""TODO: its purpose, in one line."""

import torch
from torch import Tensor

from ._dtypes import result_dtype
from ._route import bind, not_differentiable, numpy_too

_new_op = bind("new_op")


@numpy_too
def new_op(boxes: Tensor) -> Tensor:
    """TODO: what it does.

    Args:
        boxes: [N, 4] xyxy, pixels, a floating dtype.

    Returns:
        [N], float64 for float64 boxes, otherwise float32. TODO: the result for NaN and for no
        boxes.

    Raises:
        ValueError: for a wrong shape or dtype.

    Deterministic. TODO: source (paper or library).
    """
    return _new_op(boxes)


@torch.library.register_fake("detcore::new_op")
def _(boxes: Tensor) -> Tensor:
    # # TODO: with two or more tensors, begin with one_device() of ._fake
    return boxes.new_empty(boxes.shape[:1], dtype=result_dtype(boxes.dtype))


not_differentiable("new_op", "TODO: what to use instead; or register_autograd, as paired_box_iou")
