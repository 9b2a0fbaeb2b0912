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


ROTATED = {"xywhr": 5, "cxcywhr": 5, "xyxyxyxy": 8}


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.int32], ids=str
)
@pytest.mark.parametrize("to", ROTATED)
@pytest.mark.parametrize("of", ROTATED)
def test_convert_rotated(of: str, to: str, dtype: torch.dtype) -> None:
    upright = tv.box_convert(random_boxes(60), "xyxy", "cxcywh")
    boxes = torch.cat((upright, 360 * torch.rand(60, 1) - 180), 1)
    boxes[:4, 4] = torch.tensor([0.0, 90, -90, 180])
    boxes = tv.box_convert(boxes, "cxcywhr", of).to(dtype)
    got, want = ops.box_convert(boxes, of, to), tv.box_convert(boxes, of, to)
    assert got.shape[-1] == ROTATED[to]
    # in integers the last bit of a sine may turn a half up or down
    rough = {torch.float64: 1e-5, torch.float32: 1e-3, torch.float16: 0.5, torch.int32: 1}[dtype]
    torch.testing.assert_close(got, want, rtol=1e-5 if rough < 0.1 else 1e-2, atol=rough)
    assert ops.box_convert(boxes.view(4, 15, -1), of, to).shape[:2] == (4, 15)


def test_rotated_boxes_never_become_upright() -> None:
    boxes = torch.zeros(3, 5)
    with pytest.raises(NotImplementedError, match="box_convert: rotated boxes can't become"):
        ops.box_convert(boxes, "xywhr", "xyxy")
    with pytest.raises(ValueError, match=r"box_convert: boxes must be \[..., 8\], got \[3, 5\]"):
        ops.box_convert(boxes, "xyxyxyxy", "xywhr")


@pytest.mark.parametrize("fmt", FORMATS)
def test_area_of_every_format(fmt: str) -> None:
    boxes = tv.box_convert(random_boxes(20).float(), "xyxy", fmt)
    torch.testing.assert_close(ops.box_area(boxes, fmt), tv.box_area(boxes, fmt))
    with pytest.raises(ValueError, match=r"box_area: fmt must be one of xyxy, .*, got 'r'"):
        ops.box_area(boxes, fmt="r")


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


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(0, 5, 5), (3, 0, 5), (1, 1, 1), (7, 13, 64), (40, 65, 31)])
def test_masks_to_boxes(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(sum(shape))
    masks = torch.rand(shape, generator=g) > 0.99  # of some there is nothing
    want = []
    for mask in masks.numpy():
        y, x = mask.nonzero()
        want.append([x.min(), y.min(), x.max(), y.max()] if len(x) else [0.0] * 4)
    found = ops.masks_to_boxes(masks.to(dtype))
    assert found.dtype == torch.float32
    assert found.tolist() == torch.tensor(want).view(-1, 4).tolist()
    assert ops.masks_to_boxes(masks.numpy()).tolist() == found.tolist()
    if masks.numel() and masks.flatten(1).any(1).all():  # torchvision 0.25 takes no empty mask
        assert torch.equal(tv.masks_to_boxes(masks), found)


def test_masks_to_boxes_of_wrong_shape() -> None:
    with pytest.raises(
        ValueError, match=r"masks_to_boxes: masks must be \[N, H, W\], got \[5, 6\]"
    ):
        ops.masks_to_boxes(torch.ones(5, 6))
