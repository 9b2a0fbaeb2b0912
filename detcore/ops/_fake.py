"""What every fake kernel asks first: whether all tensors are on one device.

Fake and meta tensors never come to the bindings, which ask it of all others, in the same words.
"""

from torch import Tensor


def one_device(op: str, **tensors: Tensor | None) -> None:
    """Raises ValueError for the first tensor that is elsewhere than the one named first."""
    (name, tensor), *others = [(n, t) for n, t in tensors.items() if t is not None]
    for other_name, other in others:
        if other.device != tensor.device:
            raise ValueError(
                f"{op}: {name} and {other_name} must be on one device, "
                f"got {tensor.device} and {other.device}"
            )


def grad_beside(op: str, grad: Tensor, input: Tensor) -> None:
    """`one_device` of an incoming gradient and what it is to be the gradient of."""
    one_device(op, **{"grad": grad, "the input": input})
