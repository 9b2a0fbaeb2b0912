"""TODO: its purpose, in one line."""

import torch
from torch import Tensor

from ._derivatives import not_differentiable
from ._dtypes import result_dtype
from ._route import bind, numpy_too

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

    Edge cases:
        TODO: no boxes, NaN, infinity, boxes without area.

    Cost:
        TODO: time and memory for N boxes. Deterministic.

    Equivalents:
        TODO: the same in other libraries, or the source (paper).

    Example:
        >>> import torch
        >>> from detcore.ops import new_op
        >>> new_op(torch.tensor([[0., 0, 10, 5]]))
        TODO: what it prints

    See Also:
        TODO: related ops.
    """
    return _new_op(boxes)


@torch.library.register_fake("detcore::new_op")
def _(boxes: Tensor) -> Tensor:
    # TODO: with two or more tensors, begin with one_device() of ._fake
    return boxes.new_empty(boxes.shape[:1], dtype=result_dtype(boxes.dtype))


not_differentiable("new_op", "TODO: what to use instead; or differentiable(), as paired_box_iou")
