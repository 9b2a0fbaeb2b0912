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
    for name, boxes in zip(names, (boxes1, boxes2), strict=True):
        if boxes.dtype.is_complex or boxes.dtype == torch.bool:
            got = str(boxes.dtype).removeprefix("torch.")
            raise ValueError(f"{op}: {name} must be real numbers, got {got}")
    dtypes = (boxes1.dtype, boxes2.dtype)
    result = torch.float64 if torch.float64 in dtypes else torch.float32
    wide = any(not d.is_floating_point and d.itemsize >= 4 for d in dtypes)
    shared = torch.float64 if wide else result
    return boxes1.to(shared), boxes2.to(shared), result


def result_dtype(boxes: torch.dtype) -> torch.dtype:
    """What IoUs of such boxes come out as: float64 for float64, otherwise float32."""
    return torch.float64 if boxes == torch.float64 else torch.float32
