import pytest
import torch

from detcore import ops

from .conftest import random_boxes
from .peers import tv

FORMATS = ("xyxy", "xywh", "cxcywh")


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("of", FORMATS)
def test_convert(of: str, to: str) -> None:
    boxes = tv.box_convert(random_boxes(20).float(), "xyxy", of)
    torch.testing.assert_close(ops.box_convert(boxes, of, to), tv.box_convert(boxes, of, to))
    assert ops.box_convert(boxes.view(4, 5, 4), of, to).shape == (4, 5, 4)
    with pytest.raises(ValueError, match=r"box_convert: out_fmt must be one of .*, got 'yx'"):
        ops.box_convert(boxes, of, "yx")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int32], ids=str)
def test_area_clip_and_small(dtype: torch.dtype) -> None:
    boxes = (random_boxes(50, 100, 20) - 30).to(dtype)
    torch.testing.assert_close(ops.box_area(boxes), tv.box_area(boxes))
    torch.testing.assert_close(
        ops.clip_boxes_to_image(boxes, (40, 30)), tv.clip_boxes_to_image(boxes, (40, 30))
    )
    assert torch.equal(ops.remove_small_boxes(boxes, 8), tv.remove_small_boxes(boxes, 8))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64], ids=str)
def test_integers_as_torchvision_has_them(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[5, 5, 3, 3], [100, 90, 7, 20]], dtype=dtype)
    for of in FORMATS:
        for to in FORMATS:
            torch.testing.assert_close(
                ops.box_convert(boxes, of, to), tv.box_convert(boxes, of, to)
            )
    large = torch.tensor([[0, 0, 120, 110]], dtype=dtype)
    torch.testing.assert_close(ops.box_area(large), tv.box_area(large))


def test_area_of_halves_does_not_overflow() -> None:
    assert ops.box_area(torch.tensor([[0, 0, 500, 500]], dtype=torch.float16)).item() == 250000


def test_errors() -> None:
    for op in (ops.box_area, lambda b: ops.box_convert(b, "xyxy", "xywh")):
        with pytest.raises(ValueError, match=r"boxes must be \[..., 4\], got \[3, 5\]"):
            op(torch.zeros(3, 5))
