"""How boxes of unlike or integer dtypes meet: as torchvision has it, without losing digits."""

import torch
from torch import Tensor


def one_dtype(
    op: str, boxes1: Tensor, boxes2: Tensor, names: tuple[str, str] = ("boxes1", "boxes2")
) -> tuple[Tensor, Tensor, torch.dtype]:
    """Both boxes in one floating dtype, and the dtype that the result is to have.

    Integers of 32 bits and more are taken to float64: float32 would round coordinates beyond 2^24
    before they are subtracted. Raises ValueError for complex and boolean boxes.
    """
    _check_real(op, names[0], boxes1)
    _check_real(op, names[1], boxes2)
    double = boxes1.dtype == torch.float64 or boxes2.dtype == torch.float64
    result = torch.float64 if double else torch.float32
    shared = torch.float64 if double or _wide(boxes1) or _wide(boxes2) else torch.float32
    return boxes1.to(shared), boxes2.to(shared), result


def _check_real(op: str, name: str, boxes: Tensor) -> None:
    if boxes.is_complex() or boxes.dtype == torch.bool:
        got = "complex" if boxes.is_complex() else "bool"
        if not torch.jit.is_scripting():
            got = str(boxes.dtype).removeprefix("torch.")
        raise ValueError(f"{op}: {name} must be real numbers, got {got}")


def _wide(boxes: Tensor) -> bool:
    return not boxes.is_floating_point() and boxes.element_size() >= 4


def result_dtype(boxes: torch.dtype) -> torch.dtype:
    """What IoUs of such boxes come out as: float64 for float64, otherwise float32."""
    return torch.float64 if boxes == torch.float64 else torch.float32
